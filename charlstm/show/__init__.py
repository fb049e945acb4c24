"""What users see: the only folder that imports rich and plotext."""
