"""Export trained models to ONNX and to a web page."""
