"""Words, brackets, quotation marks and punctuation, as all analyses define them."""

import re

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
"""A run of letters and digits, with apostrophes inside."""
BRACKETS = {"(": ")", "[": "]", "{": "}"}
"""The closing bracket of each opening one."""
QUOTES = {"“": "”", "«": "»", "„": "“", '"': '"'}
"""The closing quotation mark of each opening one; ``“`` opens in English and closes in German."""
PUNCTUATION = ".,;:!?"
"""Marks that end a phrase or a sentence."""
