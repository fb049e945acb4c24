"""Trained models outside charlstm: in any ONNX runtime, and in a browser."""
