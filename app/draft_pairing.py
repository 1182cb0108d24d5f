"""Whether two models go together: one that is served, and one that guesses for it.

Asked by `app/loading.py` once both are at hand. A draft model's token ids go to the served model as
they are, so both must mean the same by them, and the served model must be able to check several.
"""

from transformers import PreTrainedTokenizerBase

from engine.runner import Runner
from optimize.errors import ModelRefused


def check_vocabularies(
    served: PreTrainedTokenizerBase, draft: PreTrainedTokenizerBase, *, draft_name: str
) -> None:
    """Compare two tokenizers' vocabularies.

    Raises:
        ModelRefused: a token id means two things, or is known to one of them only.
    """
    ours, theirs = _tokens(served), _tokens(draft)
    different = sorted(
        token_id
        for token_id in ours.keys() | theirs.keys()
        if ours.get(token_id) != theirs.get(token_id)
    )
    if different:
        first = different[0]
        raise ModelRefused(
            f"--draft-model {draft_name} has another vocabulary than the model: "
            f"{len(different)} of {len(ours)} tokens differ, the first is {first}, "
            f"{_quoted(theirs.get(first))} instead of {_quoted(ours.get(first))}. "
            "Give a model of the same family, with the same tokenizer."
        )


def check_can_verify(runner: Runner, name: str) -> None:
    """Make sure that the served model's runtime can check several guesses in one step.

    Raises:
        ModelRefused: it decides one token of a text at a time.
    """
    if not runner.has_all_logits:
        raise ModelRefused(
            f"--draft-model is of no use here: {name} runs on a runtime that decides one token of "
            "a text at a time. Leave it out, serve with --runtime torch, or use --native, which "
            "needs a C++ compiler."
        )


def _tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    return {token_id: token for token, token_id in tokenizer.get_vocab().items()}


def _quoted(token: str | None) -> str:
    return "none" if token is None else repr(token)
