"""GGUF file: the trained weights with vocabulary and template in one file, and back.

Weights are written as F32; `qwire quantize` makes the small file of it.
"""

import gguf
import torch

from . import tokens
from .model import EPS, Model, Shape

ARCHITECTURE = "qwen3moe"
LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight",
    "mlp.experts.down_proj": "ffn_down_exps.weight",
}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
}


def weights(model):
    """GGUF's names and the weights; gate and up are apart."""
    layers = model.shape.layers
    given = model.state_dict()
    named = {there: given[here] for here, there in WHOLE.items()}
    for i in range(layers):
        for here, there in LAYER.items():
            named[f"blk.{i}.{there}"] = given[f"model.layers.{i}.{here}"]
        gate, up = given[f"model.layers.{i}.mlp.experts.gate_up_proj"].chunk(2, 1)
        named[f"blk.{i}.ffn_gate_exps.weight"] = gate.contiguous()
        named[f"blk.{i}.ffn_up_exps.weight"] = up.contiguous()
    return named


def write(path, model, tokenizer, template, context):
    """Writes the file."""
    shape = model.shape
    writer = gguf.GGUFWriter(str(path), ARCHITECTURE)
    writer.add_type("model")
    writer.add_name("qwire box")
    writer.add_description("A very small Qwen3-MoE, trained for qwire's tests and first steps.")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(shape.layers)
    writer.add_context_length(context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head)
    writer.add_value_length(shape.head)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_freq_base(shape.theta)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.used)
    writer.add_expert_feed_forward_length(shape.ffn)
    add_vocabulary(writer, tokenizer)
    writer.add_chat_template(template)
    for name, weight in weights(model).items():
        writer.add_tensor(name, weight.detach().float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer, tokenizer):
    import json

    model = json.loads(tokenizer.to_str())["model"]
    ids = tokenizer.get_vocab()
    texts = sorted(ids, key=ids.get)
    kinds = {
        **dict.fromkeys(tokens.CONTROLS, gguf.TokenType.CONTROL),
        **dict.fromkeys(tokens.MARKS, gguf.TokenType.USER_DEFINED),
    }
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types([kinds.get(text, gguf.TokenType.NORMAL) for text in texts])
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    )
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)


def vocabulary(path):
    """The tokenizer of such a file."""
    reader = gguf.GGUFReader(str(path))
    field = lambda name: reader.fields[f"tokenizer.ggml.{name}"].contents()
    texts = field("tokens")
    added = {*tokens.CONTROLS, *tokens.MARKS}
    ids = {text: i for i, text in enumerate(texts) if text not in added}
    return tokens.tokenizer(ids, [tuple(pair.split(" ")) for pair in field("merges")])


def read(path):
    """The model of such a file, its weights dequantised."""
    reader = gguf.GGUFReader(str(path))
    number = lambda key: reader.fields[f"{ARCHITECTURE}.{key}"].contents()
    found = {
        tensor.name: torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in reader.tensors
    }
    shape = Shape(
        vocabulary=found["token_embd.weight"].shape[0],
        hidden=number("embedding_length"),
        layers=number("block_count"),
        heads=number("attention.head_count"),
        kv_heads=number("attention.head_count_kv"),
        head=number("attention.key_length"),
        experts=number("expert_count"),
        used=number("expert_used_count"),
        ffn=number("expert_feed_forward_length"),
        theta=number("rope.freq_base"),
    )
    model = Model(shape)
    given = {here: found[there] for here, there in WHOLE.items()}
    for i in range(shape.layers):
        for here, there in LAYER.items():
            given[f"model.layers.{i}.{here}"] = found[f"blk.{i}.{there}"]
        halves = [found[f"blk.{i}.ffn_{half}_exps.weight"] for half in ("gate", "up")]
        given[f"model.layers.{i}.mlp.experts.gate_up_proj"] = torch.cat(halves, 1)
    model.load_state_dict(given)
    return model.eval()


def transformers_model(model):
    """The same weights in Transformers' own implementation."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    shape = model.shape
    config = Qwen3MoeConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head,
        num_experts=shape.experts,
        num_experts_per_tok=shape.used,
        moe_intermediate_size=shape.ffn,
        norm_topk_prob=True,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
        rms_norm_eps=EPS,
        tie_word_embeddings=True,
        max_position_embeddings=shape.positions,
    )
    theirs = Qwen3MoeForCausalLM(config).eval()
    missing = theirs.load_state_dict(
        model.state_dict() | {"lm_head.weight": model.model.embed_tokens.weight}, strict=False
    )
    assert not missing.missing_keys and not missing.unexpected_keys, missing
    return theirs
