"""Models on disk: find, check, convert and load them. Usable without the service.

* `prepare`: the entry point; a `ModelSpec` in, a `PreparedModel` out
* `check`: the same order checked in a moment, without torch; for the CLI
* `spec`, `errors`, `report`: what crosses the border of this package
* `source`, `hub`, `model_folder`, `gguf_header`: where a model is and what its files say
* `architecture`, `placement_names`, `placement`, `memory`: whether it can be served here
* `conversion`, `gguf_conversion`, `fingerprint`: a GGUF file becomes a folder, once
* `onnx_export` with `onnx_*`, `smoothing`, `weight_scheme`: a folder becomes a graph for ONNX
  Runtime, exact or in eight bits, checked against the model
* `loading`, `description`, `quiet_bars`, `foreign_errors`: the folder becomes a model in memory
"""
