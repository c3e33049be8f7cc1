"""The encoder as one ONNX graph: built without torch, proved, kept in the cache, run by ONNX Runtime on a CPU."""
