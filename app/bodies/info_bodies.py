"""The bodies of `GET /info` and `GET /version`: what is served, within which limits, and how.

The first half of `InfoResponse` are TGI's names, the second half ours.
"""

from pydantic import Field, JsonValue

from app.bodies.response_model import ResponseModel

PIPELINE_TAG = "text-generation"
ROUTER = "beamline"


class ModelInfo(ResponseModel):
    """The model, and what computes it."""

    name: str
    revision: str = Field(description="Identity of the weights.")
    runtime: str = Field(description="Which runner computes it.")
    device: str
    dtype: str = Field(description="Of activations and of the KV cache.")
    weights: str = Field(description="How they are kept: a dtype, or a scheme of quantisation.")
    tensor_parallel_size: int = Field(description="Processes that compute it, each a part of it.")


class LimitsInfo(ResponseModel):
    """What a request must fit into."""

    context_length: int = Field(description="Prompt plus new tokens.")
    vocab_size: int
    max_rows: int = Field(description="Sequences of one step, of all requests together.")
    max_prompt_tokens: int
    max_new_tokens: int
    max_sequences: int = Field(description="Beams or samples of one request.")
    max_cached_tokens: int = Field(description="Tokens that the KV cache holds.")
    max_waiting_requests: int = Field(description="Requests that may queue.")
    max_body_bytes: int
    max_texts: int = Field(description="Texts of one list.")
    max_stops: int = Field(description="Stop strings of one request.")


class AbilitiesInfo(ResponseModel):
    """What depends on the runtime."""

    deterministic: bool = Field(
        description="Whether `deterministic: true` is taken: the same bits in any company."
    )
    prompt_logprobs: bool = Field(description="Whether a prompt's own tokens can be scored.")
    speculation: bool = Field(description="Whether tokens can be guessed ahead.")
    hidden_states: bool = Field(description="Whether strategies that compare these can run.")
    chat: bool = Field(description="Whether the model has a chat template for `messages`.")


class StrategyInfo(ResponseModel):
    """One way of choosing tokens."""

    description: str
    deterministic: bool | None = Field(
        description="Whether it draws no random numbers; null: that depends on its parameters."
    )
    parameters: dict[str, JsonValue] = Field(
        description="A JSON schema of the fields that a body has with this strategy only."
    )


class InfoResponse(ResponseModel):
    """Everything that a client may want to know before it asks for text."""

    model_id: str
    model_sha: str | None = Field(description="Identity of the weights.")
    model_dtype: str
    model_device_type: str
    model_pipeline_tag: str = PIPELINE_TAG
    max_concurrent_requests: int = Field(description="Requests that run or wait at most.")
    max_best_of: int
    max_stop_sequences: int
    max_input_tokens: int
    max_total_tokens: int
    validation_workers: int = Field(description="Threads that tokenise.")
    max_client_batch_size: int
    router: str = ROUTER
    version: str
    sha: str | None = Field(default=None, description="Of a source tree; releases have none.")
    docker_label: str | None = Field(default=None, description="Null: not known from inside.")

    model: ModelInfo
    limits: LimitsInfo
    abilities: AbilitiesInfo
    fingerprint: str = Field(
        description="Changes with the model, its weights, the runtime and the version."
    )
    default_strategy: str
    strategies: dict[str, StrategyInfo] = Field(description="By name.")
    adjustments: dict[str, JsonValue] = Field(
        description="A JSON schema of the fields that change scores, whatever the strategy."
    )


class VersionResponse(ResponseModel):
    """Which release this is."""

    version: str
