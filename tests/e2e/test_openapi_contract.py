"""The API keeps to its own OpenAPI document: schemathesis asks every route what its schemas allow.

Requests that are valid by the document and requests that are not go to a real server. None may
be answered with a 5xx, with a status, type or header that the document does not show, or with a
body against its schema.
"""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode, checks

EXAMPLES = 12  # of each operation
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def document(serve_forever, chat_model_folder, service_cache):
    """The document of a server whose answers are short, since any length may be asked for."""
    arguments = ["serve", "--model", str(chat_model_folder), "--port", "0", "--device", "cpu"]
    limits = ["--max-new-tokens", "4", "--max-prompt-tokens", "256", "--max-sequences", "4"]
    url = serve_forever(*arguments, *limits, cache_folder=service_cache)
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_operation_keeps_to_the_document(document, mode, subtests):
    """What is valid by the document, and what is not."""
    labels = set()
    for found in document.get_all_operations():
        operation = found.ok()
        labels.add(operation.label)
        with subtests.test(operation=operation.label):
            try:
                _ask_all_sorts(operation.as_strategy(generation_mode=mode))
            except Unsatisfiable:  # what takes nothing can be asked for in no wrong way
                assert mode is GenerationMode.NEGATIVE
                assert not list(operation.body)
    assert len(labels) > 25, "the document lacks routes"


def _ask_all_sorts(cases: SearchStrategy[Case]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case: Case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    ask()
