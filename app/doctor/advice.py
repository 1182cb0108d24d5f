"""What would make a service faster or safer here: each rule looks at one thing. No side effects."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.doctor.machine import Machine
from app.doctor.trial import Trial
from app.settings import Settings

GIBIBYTE = 2**30
FEW_TOKENS_OF_A_ROW = 512  # of the KV cache for each row: below, requests wait for each other
FAST_8_BIT = ("AVX-VNNI", "AVX-512 VNNI", "AMX", "NEON dot product", "NEON int8 matrix")
# What thread libraries do with cores, said by their own variables.
BUSY_WAITING = {"OMP_WAIT_POLICY": "ACTIVE", "KMP_BLOCKTIME": "INFINITE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing to change."""

    finding: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything that rules look at."""

    settings: Settings
    machine: Machine
    trial: Trial


def advise(case: Case) -> list[Advice]:
    """All that could be better, the weightiest first."""
    return [advice for rule in _RULES for advice in rule(case)]


def _operators(case: Case) -> Iterator[Advice]:
    model = case.trial.model
    if model is None or model.operators != "onnxruntime":
        return
    if not case.settings.native:
        finding, remedy = "--no-native is set", "leave it out: our own operators are faster"
    elif case.machine.compiler is None:
        finding = "there is no C++ compiler, so our own operators cannot be made"
        remedy = "install g++, or bring operators: `beamline operators`, --operators-folder"
    else:
        finding = "our own operators are not used for this model"
        remedy = "see the remarks of the loader for the reason"
    yield Advice(finding=finding, remedy=remedy)


def _compiler(case: Case) -> Iterator[Advice]:
    has_none = case.machine.compiler is None and case.settings.operators_folder is None
    if case.trial.model is None and has_none and case.settings.native:
        yield Advice(
            finding="there is no C++ compiler, so our own operators cannot be made",
            remedy="install g++, or bring operators: `beamline operators`, --operators-folder",
        )


def _torch_on_cpu(case: Case) -> Iterator[Advice]:
    model = case.trial.model
    if model is None or model.runtime != "torch" or model.device != "cpu":
        return
    remedy = "leave out --runtime" if case.settings.runtime == "torch" else "see the remarks"
    yield Advice(finding="torch computes on the CPU, which is slower than ONNX", remedy=remedy)
    if case.machine.packages["torchao"] is None:
        yield Advice(
            finding="torchao is missing, so torch cannot take quantised weights",
            remedy="pip install 'beamline[torchao]', then beamline optimize int8-weight-only",
        )


def _weights(case: Case) -> Iterator[Advice]:
    model = case.trial.model
    if model is not None and model.runtime == "onnx" and model.weights == "fp32":
        yield Advice(
            finding="weights are kept in float32",
            remedy="leave out --weights: w8a8 is several times faster and loses little",
        )


def _processor(case: Case) -> Iterator[Advice]:
    if not case.machine.may_have_cuda and not set(FAST_8_BIT) & set(case.machine.instructions):
        has = ", ".join(case.machine.instructions) or "none that we know"
        yield Advice(
            finding=f"the processor has no instructions for 8-bit products ({has})",
            remedy="a machine with AVX-512 VNNI, AVX-VNNI or NEON dot product is faster",
        )


def _threads(case: Case) -> Iterator[Advice]:
    threads, cores = case.settings.threads, case.machine.num_usable_cores
    if threads > cores:
        yield Advice(
            finding=f"{threads} threads share {cores} cores",
            remedy=f"set --threads {cores} (or OMP_NUM_THREADS), or leave it out",
        )
    if threads < cores:
        yield Advice(
            finding=f"{threads} threads leave some of {cores} cores idle",
            remedy="leave out --threads and OMP_NUM_THREADS, unless others need the cores",
        )


def _quota(case: Case) -> Iterator[Advice]:
    quota = case.machine.cpu_quota
    if quota is not None and quota < case.settings.threads:
        yield Advice(
            finding=f"the container may use {quota:g} cores and {case.settings.threads} threads "
            "compute: it will be held up in every period",
            remedy="give it whole cores, as many as threads",
        )


def _waiting(case: Case) -> Iterator[Advice]:
    for name, value in BUSY_WAITING.items():
        if case.machine.threading_variables.get(name, "").upper() == value:
            yield Advice(
                finding=f"{name}={value} makes idle threads keep their cores",
                remedy="unset it: tokens are chosen, and requests read, on the same cores",
            )


def _load(case: Case) -> Iterator[Advice]:
    if case.machine.load > 1.5 * case.machine.num_usable_cores:
        yield Advice(
            finding=f"{case.machine.load:.1f} processes want {case.machine.num_usable_cores} cores",
            remedy="give the service cores of its own",
        )


def _clock(case: Case) -> Iterator[Advice]:
    if case.machine.governor == "powersave":
        yield Advice(
            finding="the processor's clock is set to save power",
            remedy="cpupower frequency-set --governor performance",
        )


def _memory(case: Case) -> Iterator[Advice]:
    tokens = case.trial.max_cached_tokens
    few = min(FEW_TOKENS_OF_A_ROW, case.trial.context_length or 0) * case.settings.max_rows
    if tokens is not None and tokens < few:
        yield Advice(
            finding=f"the KV cache holds {tokens:,} tokens for {case.settings.max_rows} rows",
            remedy="raise --kv-cache-bytes if there is memory, or lower --max-rows",
        )
    if case.machine.used_swap_bytes > GIBIBYTE:
        yield Advice(
            finding=f"{case.machine.used_swap_bytes / GIBIBYTE:.1f} GiB are swapped out",
            remedy="free memory: a model that is swapped in again answers in minutes",
        )


def _cache(case: Case) -> Iterator[Advice]:
    if not case.machine.can_write_cache:
        yield Advice(
            finding=f"{case.machine.cache_folder} cannot be written",
            remedy="choose another --cache-folder, or fill it before with beamline models prepare",
        )


def _server(case: Case) -> Iterator[Advice]:
    if case.machine.packages["uvloop"] is None:
        yield Advice(finding="uvloop is missing", remedy="pip install uvloop: HTTP costs less")


_RULES: tuple[Callable[[Case], Iterator[Advice]], ...] = (
    *(_operators, _compiler, _torch_on_cpu, _weights, _threads, _quota, _waiting, _memory),
    *(_load, _clock, _cache, _processor, _server),
)
