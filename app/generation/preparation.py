"""From a request for text to what the engine needs: token ids, lengths, seed, cache key.

`TextGenerator` calls `prepare` on a text thread. Everything about a request that can be refused
without the engine is refused on the way (`model_fit.py`), naming the field and giving the numbers.
"""

from dataclasses import dataclass

from app.generation.adjustments import AdjustmentTranslator
from app.generation.cache_key import ModelIdentity, key_of
from app.generation.call_grammars import CallGrammars
from app.generation.model_fit import ModelFit
from app.generation.prepared_request import PreparedRequest
from app.text.codec import TextCodec
from app.text.request import TextRequest, TokenPrompt
from app.text.stop_strings import StopStrings
from decoding.base import ChecksTask, Task, has_independent_rows
from engine.messages import NegativePrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparer:
    """What stays the same from request to request."""

    codec: TextCodec
    fit: ModelFit
    model: ModelIdentity
    translator: AdjustmentTranslator
    calls: CallGrammars
    default_guesses: int = 0  # of the draft model at once, for requests that do not say

    def prepare(self, request: TextRequest) -> PreparedRequest:
        """Tokenise a request and check that it can be served. Blocks; call it on a text thread.

        Raises:
            InvalidRequest: it does not fit the model or the engine; names the field.
        """
        self.fit.check_rows(request)
        self.fit.request_limits.check_stops(len(request.stop))
        self.fit.check_abilities(request)
        prompt_text, prompt_ids = self._tokenize(request)
        max_new_tokens = self.fit.new_tokens(request, len(prompt_ids))
        self._check_task(request, max_new_tokens)
        context = self.codec.context_of(prompt_ids)
        stop_check = self._stop_check(request, context)
        grammar = self.calls.grammar_of(request)
        guidance = self._guidance(request, prompt_ids, max_new_tokens)
        key = None
        if request.is_cacheable:
            key = key_of(
                request,
                model=self.model,
                prompt_ids=prompt_ids,
                max_new_tokens=max_new_tokens,
                guidance=guidance,
                grammar=grammar,
            )
        return PreparedRequest(
            request=request,
            prompt_text=prompt_text,
            prompt_ids=prompt_ids,
            context=context,
            max_new_tokens=max_new_tokens,
            stop_check=stop_check,
            adjustments=self.translator.translate(request.adjustments, max_new_tokens),
            shown_ids=self.calls.shown_ids if request.tools is not None else frozenset(),
            constraint=self.calls.constraint(request, grammar),
            guidance=guidance,
            phrases_of=self.translator.phrases_of,
            num_speculative_tokens=self._num_speculative_tokens(request),
            cache_key=key,
        )

    def _tokenize(self, request: TextRequest) -> tuple[str, tuple[int, ...]]:
        match request.prompt:
            case str(text):
                ids = self.codec.encode(text)
            case TokenPrompt(ids=ids):
                self.fit.check_vocabulary(ids, request.prompt_field)
                text = self.codec.spell(ids)
            case conversation:
                functions = () if request.tools is None else request.tools.functions
                text = self.codec.render(conversation, functions)
                ids = self.codec.encode(text, has_special_tokens=True)
        if not ids and self.codec.bos_token_id is not None:
            ids = (self.codec.bos_token_id,)
        self.fit.check_vocabulary(ids, request.prompt_field)
        read_ids = ids[-(request.truncate_prompt_tokens or len(ids)) :]
        self.fit.request_limits.check_prompt(len(read_ids), param=request.prompt_field)
        return text, read_ids

    def _check_task(self, request: TextRequest, max_new_tokens: int) -> None:
        if isinstance(request.strategy, ChecksTask):
            request.strategy.check_task(
                Task(
                    max_new_tokens=max_new_tokens,
                    seed=0,
                    phrases_of=self.translator.phrases_of,
                    depth=self.fit.limits.depth,
                )
            )

    def _stop_check(self, request: TextRequest, context: tuple[int, ...]) -> StopStrings | None:
        if not request.stop:
            return None
        codec = self.codec if request.tools is None else self.codec.showing(self.calls.shown_ids)
        return StopStrings(request.stop, codec, context)

    def _guidance(
        self, request: TextRequest, prompt_ids: tuple[int, ...], max_new_tokens: int
    ) -> NegativePrompt | None:
        if not request.is_guided:
            return None
        negative_ids = prompt_ids[-1:]
        if request.negative_prompt is not None:
            negative_ids = self.codec.encode(request.negative_prompt)
            self.fit.check_negative_prompt(negative_ids, max_new_tokens)
        return NegativePrompt(prompt_ids=negative_ids, scale=request.guidance_scale)

    def _num_speculative_tokens(self, request: TextRequest) -> int:
        """What the draft model guesses at once: as asked for, else as set where it is possible."""
        if request.num_speculative_tokens is not None:
            return request.num_speculative_tokens
        is_possible = has_independent_rows(request.strategy) and not request.is_guided
        return self.default_guesses if is_possible else 0
