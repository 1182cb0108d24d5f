"""The ways to compute a model: how each is prepared, and how its runner is opened.

* `runnable_model`: what all of them give to `app/loading.py`, which chooses with `runtime_choice`.
* `onnx_model`: an export, on operators of our own or on ONNX Runtime's.
* `torch_model`: a module of transformers, here or in several processes.
* `program_model`: a program of torch without the model's own code.

What loads torch or a runtime is imported when it is wanted, so that others start without it.
"""
