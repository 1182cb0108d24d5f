"""The checks of TGI's bodies and of those about tokens.

What TGI's parameters do is shown in `tests/app/tgi`; here every field of ours is held against the
same field of `POST /generate`, since all of them can stand among the parameters.
"""

from pathlib import Path

from tests.app.fields.apis import PROMPT
from tests.app.fields.changes import ADJUSTMENTS, REQUIRED, STRATEGIES, Change
from tests.app.fields.own import post, shows

ROOT = Path(__file__).parents[3]
ASKED = {"seed": 3, "max_new_tokens": 8}
SHOWN = {
    "tests/app/tgi/test_answers.py": {
        "TgiParameters": (
            *("decoder_input_details", "details", "do_sample", "grammar", "max_new_tokens"),
            *("return_full_text", "top_n_tokens", "truncate", "watermark"),
        ),
    },
    "tests/app/tgi/test_parameters.py": {"TgiParameters": ("adapter_id", "strategy")},
    "tests/app/tgi/test_stream.py": {"TgiRequest": ("inputs", "stream")},
    "tests/app/routes/test_tokens.py": {
        "TokenizeRequest": ("text", "messages", "add_special_tokens"),
        "DetokenizeRequest": ("tokens", "skip_special_tokens"),
        "ApplyTemplateRequest": ("messages",),
        "TgiTokenizeRequest": ("inputs",),
        "ChatTokenizeRequest": ("messages",),
    },
}


def _file(test, body, field):
    @shows(body, field)
    async def _check(service):  # noqa: ARG001  the test that is named needs it
        assert field in (ROOT / test).read_text()


for _test, _bodies in SHOWN.items():
    for _body, _fields in _bodies.items():
        for _field in _fields:
            _file(_test, _body, _field)


@shows("TgiRequest", "parameters")
async def _parameters(service):
    for strategy in (each for each in STRATEGIES if each != "default"):
        way = {"strategy": strategy, **REQUIRED.get(strategy, {})}
        for name, change in STRATEGIES[strategy].items():
            await _same(service, way, name, change)
    for name, change in ADJUSTMENTS.items():
        await _same(service, {"strategy": "greedy"}, name, change)


async def _same(service, way, name, change):
    """Whether both APIs give the same texts with a changed field."""
    if not isinstance(change, Change):
        return
    fields = {**ASKED, **way, **change.beside, name: change.value}
    ours = await post(service, "/generate", text=PROMPT, return_full_text=False, **fields)
    theirs = await post(service, "/generate", inputs=PROMPT, parameters={"details": True, **fields})
    texts = [each["generated_text"] for each in ours.get("sequences") or [ours]]
    others = theirs["details"].get("best_of_sequences", [])
    assert [theirs["generated_text"], *(each["generated_text"] for each in others)] == texts, name
