"""Model: a Qwen3-MoE in plain PyTorch, computed only where the loss looks, under Transformers' names.

It begins with an induction circuit (`mimetic`): a head of layer 0 attends to the previous token, a
head of layer 1 to the token after the last occurrence of the present one. Copying, which most
tasks are made of, is then there at the first step instead of after tens of millions of tokens.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Shape:
    vocabulary: int = 2048
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head: int = 64
    experts: int = 8
    used: int = 2
    ffn: int = 256
    theta: float = 1e6
    positions: int = 8192

    asdict = asdict


EPS = 1e-6


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        linear = lambda rows, columns: nn.Linear(columns, rows, bias=False)
        self.q_proj = linear(shape.heads * shape.head, shape.hidden)
        self.k_proj = linear(shape.kv_heads * shape.head, shape.hidden)
        self.v_proj = linear(shape.kv_heads * shape.head, shape.hidden)
        self.o_proj = linear(shape.hidden, shape.heads * shape.head)
        self.q_norm = nn.RMSNorm(shape.head, eps=EPS)
        self.k_norm = nn.RMSNorm(shape.head, eps=EPS)

    def forward(self, x, cos, sin):
        rows, length, _ = x.shape
        split = lambda y: y.view(rows, length, -1, self.shape.head)
        q = rotate(self.q_norm(split(self.q_proj(x))).transpose(1, 2), cos, sin)
        k = rotate(self.k_norm(split(self.k_proj(x))).transpose(1, 2), cos, sin)
        v = split(self.v_proj(x)).transpose(1, 2)
        group = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(rows, length, -1))


class Experts(nn.Module):
    def __init__(self, shape):
        super().__init__()
        e, f, d = shape.experts, shape.ffn, shape.hidden
        self.gate_up_proj = nn.Parameter(torch.empty(e, 2 * f, d))
        self.down_proj = nn.Parameter(torch.empty(e, d, f))


class Mixture(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.gate = nn.Linear(shape.hidden, shape.experts, bias=False)
        self.experts = Experts(shape)
        self.balance = 0.0  # the load-balancing loss of the last call
        self.register_buffer("load", torch.zeros(shape.experts), persistent=False)

    def forward(self, x):  # [tokens, hidden]
        count, used = self.shape.experts, self.shape.used
        p = F.softmax(self.gate(x).float(), -1)
        weight, chosen = p.topk(used, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        flat = chosen.reshape(-1)
        order = flat.argsort(stable=True)
        token = order // used
        sizes = torch.bincount(flat, minlength=count)
        self.load += sizes
        self.balance = count * (sizes / flat.numel() * p.mean(0)).sum()
        parts = []
        rows = x.index_select(0, token).split(sizes.tolist())
        # Unbound once: an index would have a gradient of all experts' size for each.
        weights = self.experts.gate_up_proj.unbind(0), self.experts.down_proj.unbind(0)
        for part, gate_up, down in zip(rows, *weights, strict=True):
            if len(part):
                gate, up = F.linear(part, gate_up).chunk(2, -1)
                parts.append(F.linear(F.silu(gate) * up, down))
        y = torch.cat(parts) * weight.reshape(-1)[order].unsqueeze(-1)
        return torch.zeros_like(x).index_add_(0, token, y)


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=EPS)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=EPS)
        self.mlp = Mixture(shape)


class Body(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=EPS)


class Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                residual = name.endswith(("o_proj.weight", "down_proj"))
                nn.init.normal_(weight, 0, 0.02 / (math.sqrt(2 * shape.layers) if residual else 1))
        mimetic(self)
        frequency = shape.theta ** -(torch.arange(0, shape.head, 2).float() / shape.head)
        angle = torch.outer(torch.arange(shape.positions).float(), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids, wanted):
        """Logits at the wanted ones of the flattened positions; the head is the embedding."""
        rows, length = ids.shape
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = x + layer.self_attn(layer.input_layernorm(x), cos, sin)
            flat = x.reshape(rows * length, -1)
            if layer is self.model.layers[-1]:
                flat = flat[wanted]
            x = flat + layer.mlp(layer.post_attention_layernorm(flat))
            if layer is not self.model.layers[-1]:
                x = x.view(rows, length, -1)
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)

    def balance(self):
        return sum(layer.mlp.balance for layer in self.model.layers)

    def loads(self):
        """Each expert's share of its layer's rows, times the number of experts; then counts anew."""
        loads = [
            layer.mlp.load / layer.mlp.load.sum() * self.shape.experts
            for layer in self.model.layers
        ]
        for layer in self.model.layers:
            layer.mlp.load = torch.zeros_like(layer.mlp.load)
        return loads


@torch.no_grad()
def mimetic(model):
    """Writes the induction circuit into the first heads of layers 0 and 1.

    Queries have no bias, so a head that looks at positions alone needs a direction which every row
    shares: c, of equal size in all channels, so that no channel is an outlier when quantised.
    """
    shape = model.shape
    d, h = shape.hidden, shape.head
    half = h // 2
    basis = torch.linalg.qr(torch.randn(d - 1, d - 1)).Q
    free = torch.zeros(d, d)
    free[1:, 1:] = basis  # orthonormal rows; coordinate 0 is c for the moment
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    model.model.embed_tokens.weight[:, 0] = 0.32
    frequency = shape.theta ** -(torch.arange(0, h, 2).float() / h)
    seen, stored, spoken = free[1 : 1 + h], free[1 + h : 1 + 2 * h], free[1 + 2 * h : 1 + 3 * h]

    # Query and key are c alone, the key turned by one position: attends to the previous token and
    # stores what is seen of it.
    first.q_proj.weight[:h] *= 0.1
    first.k_proj.weight[:h] *= 0.1
    for i in range(4):
        first.q_proj.weight[i, 0] = 1
        first.k_proj.weight[i, 0] = math.cos(frequency[i])
        first.k_proj.weight[i + half, 0] = math.sin(frequency[i])
    first.q_norm.weight.fill_(1.7)
    first.k_norm.weight.fill_(1.7)
    first.v_proj.weight[:, 0] = 0
    first.v_proj.weight[:h] = seen
    first.o_proj.weight *= 0.3
    first.o_proj.weight[:, :h] = stored.T * 0.08

    # The query is what is seen of this token, the key what was stored of the previous one, on the
    # slow pairs of the rotation; says the token that is found.
    slow = [*range(10, half), *range(half + 10, h)]
    second.q_proj.weight[:h] *= 0.1
    second.k_proj.weight[:h] *= 0.1
    second.q_proj.weight[slow] = seen[: len(slow)]
    second.k_proj.weight[slow] = stored[: len(slow)]
    second.q_norm.weight.fill_(1.8)
    second.k_norm.weight.fill_(1.8)
    second.v_proj.weight[:, 0] = 0
    second.v_proj.weight[:h] = spoken
    second.o_proj.weight[:, :h] = spoken.T * 0.25

    # A reflection takes coordinate 0 to c.
    axis = torch.randint(0, 2, (d,)) * 2.0 - 1
    axis = -axis / math.sqrt(d)
    axis[0] = -axis[0].abs()
    axis[0] -= 1
    axis /= axis.norm()
    reflect = lambda weight: weight.sub_(2 * torch.outer(weight @ axis, axis))
    reflect(model.model.embed_tokens.weight)
    for layer in model.model.layers:
        attention = layer.self_attn
        for part in (attention.q_proj, attention.k_proj, attention.v_proj):
            reflect(part.weight)
        attention.o_proj.weight.copy_(reflect(attention.o_proj.weight.T.contiguous()).T)
