"""Beamline beside other ways to serve a model: the same weights, prompts and machine, in one run.

`__main__` reads the options, `weights` gets the model in every form, `peers` lists who takes part,
`http_peer` and `worker_peer` run one of them, `measure` takes turns and `summary` compares. Each
peer lives in a virtual environment of its own (`install`), outside the repository.
"""
