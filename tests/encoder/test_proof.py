"""The proof at load, on tiny random models of the architectures users bring."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel, BertConfig, BertModel, PreTrainedModel

from searchctl.encoder import proof
from searchctl.encoder.bidirectional import decoder_layers, set_attention
from searchctl.encoder.config import Attention
from searchctl.encoder.errors import ModelFilesError, NotBidirectionalError

BASE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT = {
    "vocab_size": 128,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}

GOOD = {
    "llama": BASE,
    "mistral": BASE,
    "ministral": {**BASE, "head_dim": 8},
    "mixtral": {**BASE, **EXPERTS},
    "qwen2": BASE,
    "qwen2_moe": {**BASE, **EXPERTS},
    "qwen3": {**BASE, "head_dim": 8},
    "qwen3_moe": {**BASE, **EXPERTS, "head_dim": 8},
    "gemma": {**BASE, "head_dim": 8},
    "gemma2": {**BASE, "head_dim": 8},
    "gemma3_text": {**BASE, "head_dim": 8},
    "phi": BASE,
    "phi3": BASE,
    "olmo2": BASE,
    "olmo3": BASE,
    "granite": BASE,
    "smollm3": BASE,
    "gpt_neox": BASE,
    "stablelm": BASE,
    "starcoder2": BASE,
    "cohere2": BASE,
    "glm": {**BASE, "head_dim": 8},
    "gpt_oss": {**BASE, **EXPERTS, "head_dim": 8},
    "opt": {**BASE, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "gpt2": GPT,
    "gptj": {**GPT, "rotary_dim": 4},
    "bloom": {"vocab_size": 128, "hidden_size": 32, "n_layer": 4, "n_head": 4, "pad_token_id": 0},
    "falcon": {key: value for key, value in BASE.items() if key != "intermediate_size"},
}

REFUSED = {
    "llama4_text": ({**BASE, **EXPERTS, "head_dim": 8}, "chunked_attention"),
    "lfm2": ({**BASE, "layer_types": ["full_attention", "conv", "full_attention", "conv"]}, "layers.1 .*conv"),
    "minimax": ({**BASE, **EXPERTS, "head_dim": 8}, "linear_attention"),
    "jamba": ({**BASE, **EXPERTS}, "JambaMambaDecoderLayer"),
    "qwen3_next": (
        {
            **BASE,
            **EXPERTS,
            "head_dim": 8,
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
        "Qwen3NextDecoderLayer, linear_attention",
    ),
}


def tiny(kind: str, config: dict[str, object]) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModel.from_config(CONFIG_MAPPING[kind](**config)).eval()


def test_decoder_is_proved_bidirectional_and_causal(subtests: pytest.Subtests) -> None:
    for kind, config in GOOD.items():
        with subtests.test(kind=kind):
            model = tiny(kind, config)
            # As loaded it is causal, and the bidirectional claim must be refused: the proof can fail.
            with pytest.raises(NotBidirectionalError, match="does not see the future"):
                proof.require(model, Attention.BIDIRECTIONAL, name=kind)
            set_attention(model, Attention.BIDIRECTIONAL)
            proved = proof.require(model, Attention.BIDIRECTIONAL, name=kind)
            assert len(proved.layers) == 4
            set_attention(model, Attention.CAUSAL)
            proof.require(model, Attention.CAUSAL, name=kind)


def test_layers_that_stay_causal_are_refused_by_name(subtests: pytest.Subtests) -> None:
    for kind, (config, named) in REFUSED.items():
        with subtests.test(kind=kind):
            model = set_attention(tiny(kind, config), Attention.BIDIRECTIONAL)
            with pytest.raises(NotBidirectionalError, match=named):
                proof.require(model, Attention.BIDIRECTIONAL, name=kind)


def test_d1_qwen2_causal_in_one_layer_is_found() -> None:
    """Qwen2 was silently causal in llm2vec 0.2.3; here a single bad layer behind good ones must be found."""
    model = set_attention(tiny("qwen2", GOOD["qwen2"]), Attention.BIDIRECTIONAL)
    layer = model.layers[2]
    forward = layer.forward

    def causal(hidden_states: torch.Tensor, **kwargs: object) -> torch.Tensor:
        length = hidden_states.shape[1]
        kwargs["attention_mask"] = torch.ones(length, length).tril().bool()[None, None]
        return forward(hidden_states, **kwargs)

    layer.forward = causal
    failures = proof.prove(model).failures(Attention.BIDIRECTIONAL)
    assert [text for text in failures if "does not see the future" in text] == [
        "layer layers.2 (Qwen2DecoderLayer, full_attention) does not see the future"
    ]


def test_d12_causal_for_a_batch_of_one_is_found() -> None:
    model = set_attention(tiny("llama", GOOD["llama"]), Attention.BIDIRECTIONAL)
    forward = model.forward

    def causal_alone(input_ids: torch.Tensor, **kwargs: object) -> object:
        model.config.is_causal = len(input_ids) == 1
        return forward(input_ids=input_ids, **kwargs)

    model.forward = causal_alone
    assert any("batch of one" in text for text in proof.prove(model).failures(Attention.BIDIRECTIONAL))


def test_a_causal_mixer_beside_attention_is_found() -> None:
    """falcon_h1 runs a state-space mixer and attention in parallel: the layer as a whole looks ahead."""
    model = set_attention(tiny("llama", GOOD["llama"]), Attention.BIDIRECTIONAL)

    class Running(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden.cumsum(dim=1)

    layer = model.layers[1]
    layer.mixer = Running()
    forward = layer.forward
    layer.forward = lambda hidden_states, **kwargs: forward(hidden_states, **kwargs) + layer.mixer(hidden_states)
    failures = proof.prove(model).failures(Attention.BIDIRECTIONAL)
    assert "in layer layers.1 (LlamaDecoderLayer) mixer (Running) stays causal" in failures


def test_attending_to_padding_is_found() -> None:
    model = set_attention(tiny("llama", GOOD["llama"]), Attention.BIDIRECTIONAL)
    forward = model.forward
    model.forward = lambda input_ids, attention_mask=None, **kwargs: forward(input_ids=input_ids, **kwargs)
    assert any("padding tokens change" in text for text in proof.prove(model).failures(Attention.BIDIRECTIONAL))


def test_proof_works_in_bf16() -> None:
    model = set_attention(tiny("llama", GOOD["llama"]).to(torch.bfloat16), Attention.BIDIRECTIONAL)
    assert proof.prove(model).failures(Attention.BIDIRECTIONAL) == []


def test_the_switch_survives_saving(tmp_path: object) -> None:
    model = set_attention(tiny("llama", GOOD["llama"]), Attention.BIDIRECTIONAL)
    model.save_pretrained(str(tmp_path))
    again = AutoModel.from_pretrained(str(tmp_path))
    assert proof.prove(again).failures(Attention.BIDIRECTIONAL) == []


def test_a_model_without_decoder_layers_is_refused() -> None:
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    bert = BertModel(config)
    bert.encoder.layer = bert.encoder.layer[:1]
    with pytest.raises(ModelFilesError, match="no stack of 2 decoder layers"):
        decoder_layers(bert)
