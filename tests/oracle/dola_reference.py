"""DoLa as a plain loop over the model, written from Chuang et al. 2023 and its authors' code.

`transformers` had the method until it moved out of the library; the reference is the definition:
the whole text is read again for every token, and its hidden states are those of `transformers`.
"""

import math

import torch


def layers_of(strategy, model):
    if not isinstance(strategy.dola_layers, str):
        return strategy.dola_layers
    assert strategy.dola_layers == "high"
    last = model.config.num_hidden_layers
    return tuple(range(last // 2, last, 2))


def contrasted(mature, premature, relative_top):
    """Scores by the layer of `premature` [layers, vocab] furthest from the last, all float64."""
    last = torch.log_softmax(mature.double(), dim=0)
    others = torch.log_softmax(premature.double(), dim=1)
    distances = []
    for other in others:
        mean = (last.exp() + other.exp()) / 2
        to_last, to_other = (mean * (mean.log() - each) for each in (last, other))
        distances.append(float(to_last.sum() + to_other.sum()) / 2)
    other = others[distances.index(max(distances))]
    is_plausible = last >= last.max() + math.log(relative_top)
    return torch.where(is_plausible, last - other, -math.inf)


@torch.inference_mode()
def dola_tokens(model, request, *, penalty=1.0):
    """One token after the other; a repetition penalty weakens contrasts, as transformers has it."""
    strategy, ids = request.strategy, list(request.prompt_ids)
    for _ in range(request.max_new_tokens):
        said = model(torch.tensor([ids]), output_hidden_states=True)
        states = torch.stack([said.hidden_states[at][0, -1] for at in layers_of(strategy, model)])
        early = model.get_output_embeddings()(states)
        scores = contrasted(said.logits[0, -1], early, strategy.relative_top)
        seen = torch.tensor(sorted(set(ids)))
        of_seen = scores[seen]
        scores[seen] = torch.where(of_seen > 0, of_seen / penalty, of_seen * penalty)
        ids.append(int(scores.argmax()))
        if ids[-1] in request.eos_token_ids:
            break
    return tuple(ids[len(request.prompt_ids) :])
