"""GlintIQA, ViT and ResNet in PyTorch, to compare speed: run by twin.py in a process of its own, with PyTorch alone.

  python torch_twin.py FILE.npz

Written from the papers and from the names in public weight files (NAMES in jaxiqa/models), so that weights of jaxiqa
load by name. The file holds the weights, "images" (B, H, W, 3) and "about", JSON: the model, its fields, the modes to
build, and the names of frozen tensors. Each line on standard input is a mode, or "scores"; each answer is a line of
JSON: seconds of one call, or the scores. The modes are those of MODES, with the prefix "train " for a training step.

Legend: B batch, C channels, N tokens, D width.
"""

import json
import sys
import time

import numpy as np

try:
    import torch
except ImportError:
    print(json.dumps({"error": "PyTorch is not installed"}))
    sys.exit(0)
from torch import nn
from torch.nn import functional as F

MODES = {  # channels-last, compiled, bf16
    "eager": (False, False, False),
    "channels-last": (True, False, False),
    "compiled": (True, True, False),
    "bf16": (True, True, True),
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, t):
        B, N, D = t.shape
        q, k, v = self.qkv(t).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, t):
        return self.fc2(F.gelu(self.fc1(t)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, t):
        t = t + self.attn(self.norm1(t))
        return t + self.mlp(self.norm2(t))


class Embedding(nn.Module):
    """A convolution without overlap, (B, C, H, W) -> (B, N, D)."""

    def __init__(self, channels, width, kernel):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel, kernel)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


class ViT(nn.Module):
    def __init__(self, width, depth, heads, crop_size, num_classes=0, patch=16, **_):
        super().__init__()
        self.patch_embed = Embedding(3, width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (crop_size // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6) if num_classes else None
        self.head = nn.Linear(width, num_classes) if num_classes else None

    def features(self, x):
        t = self.patch_embed(x)
        t = torch.cat([self.cls_token.expand(len(t), -1, -1), t], 1) + self.pos_embed
        found = []
        for block in self.blocks:
            t = block(t)
            found.append(t)
        return found

    def forward(self, x):
        return self.head(self.norm(self.features(x)[-1])[:, 0])


class Bottleneck(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        sizes = ((channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1))
        for k, (inner, outer, kernel, step) in enumerate(sizes, 1):
            setattr(self, f"conv{k}", nn.Conv2d(inner, outer, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{k}", nn.BatchNorm2d(outer))
        self.downsample = None
        if stride > 1 or channels != 4 * width:
            shortcut = nn.Conv2d(channels, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, stage_sizes, width=64, num_classes=0, **_):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        channels, self.stages = width, len(stage_sizes)
        for s, blocks in enumerate(stage_sizes, 1):
            inner, layers = width << (s - 1), []
            for i in range(blocks):
                layers.append(Bottleneck(channels, inner, 2 if s > 1 and i == 0 else 1))
                channels = 4 * inner
            setattr(self, f"layer{s}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, num_classes) if num_classes else None

    def features(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        found = []
        for s in range(1, self.stages + 1):
            x = getattr(self, f"layer{s}")(x)
            found.append(x)
        return found

    def forward(self, x):
        return self.fc(self.features(x)[-1].mean((2, 3)))


class ChannelAttention(nn.Module):
    """CWSA, (B, C, N) -> (B, C, N)."""

    def __init__(self, tokens, dropout):
        super().__init__()
        self.c_q, self.c_k, self.c_v = (nn.Linear(tokens, tokens) for _ in range(3))
        self.norm, self.dropout = nn.LayerNorm(tokens, eps=1e-5), nn.Dropout(dropout)

    def forward(self, x):
        q, k, v = F.normalize(self.c_q(x), dim=-1), F.normalize(self.c_k(x), dim=-1), self.c_v(x)
        weights = (q @ k.transpose(1, 2) * x.shape[-1] ** -0.5).softmax(-1)
        y = (weights @ v).transpose(1, 2).reshape(x.shape)  # the public code rereads the memory
        return x + self.norm(self.dropout(y))


class Interaction(nn.Module):
    """SIEM, (B, C, N) -> (B, N, D)."""

    def __init__(self, channels, width):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)

    def forward(self, x):
        side = round(x.shape[-1] ** 0.5)
        return self.conv(x.reshape(*x.shape[:2], side, side)).flatten(2).transpose(1, 2)


class Branch(nn.Module):
    def __init__(self, backbone, embeddings=()):
        super().__init__()
        self.backbone = backbone
        for i, embedding in enumerate(embeddings, 1):
            setattr(self, f"patch_embed{i}", embedding)


class GlintIQA(nn.Module):
    def __init__(self, width, heads, taps, cnn_width, cnn_stages, crop_size, dropout, **_):
        super().__init__()
        self.taps = taps
        self.vgfe = Branch(ViT(width, max(taps) + 1, heads, crop_size))
        embeddings = [Embedding(4 * cnn_width << i, width, 4 >> i) for i in range(3)]
        self.clfe = Branch(ResNet(cnn_stages, cnn_width), embeddings)
        tokens = (crop_size // 16) ** 2
        self.local_cwsa = ChannelAttention(tokens, dropout)
        self.local_projection = nn.Linear(3 * width, width)
        for s in range(1, 5):
            setattr(self, f"cwsa{s}", ChannelAttention(tokens, dropout))
            setattr(self, f"siem{s}", Interaction(2 * width, width))
        head = (nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, 1))
        self.quality_head = nn.Module()
        self.quality_head.layers = nn.Sequential(*head)

    def forward(self, x):
        tokens = self.vgfe.backbone.features(x)
        maps = self.clfe.backbone.features(x)
        local = torch.cat([getattr(self.clfe, f"patch_embed{i}")(y) for i, y in enumerate(maps, 1)], -1)
        p = self.local_projection(self.local_cwsa(local.transpose(1, 2)).transpose(1, 2))
        for s, tap in enumerate(self.taps, 1):
            both = torch.cat([tokens[tap][:, 1:], p], -1).transpose(1, 2)
            p = getattr(self, f"siem{s}")(getattr(self, f"cwsa{s}")(both))
        return self.quality_head.layers(p.mean(1))[:, 0]


MODELS = {"glintiqa": GlintIQA, "vit": ViT, "resnet": ResNet}


class Mode:
    """One way to compute: a call of it takes one step and returns its seconds."""

    def __init__(self, about, tensors, images, name):
        train = name.startswith("train ")
        last, compiled, self.bf16 = MODES[name.removeprefix("train ")]
        layout = torch.channels_last if last else torch.contiguous_format
        self.model = build(about, tensors).to(DEVICE, memory_format=layout)
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).to(DEVICE).contiguous(memory_format=layout)
        self.optimizer = None
        if train:
            freeze(self.model, set(about["frozen"]))
            trained = [p for p in self.model.parameters() if p.requires_grad]
            self.optimizer = torch.optim.AdamW(trained, 1e-5)
        self.forward = torch.compile(self.model) if compiled else self.model

    def __call__(self):
        began = time.perf_counter()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self.bf16), torch.set_grad_enabled(bool(self.optimizer)):
            out = self.forward(self.images)
            if self.optimizer:
                self.optimizer.zero_grad()
                out.float().abs().mean().backward()
                self.optimizer.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def build(about, tensors):
    model = MODELS[about["model"]](**about["fields"]).eval()
    with torch.no_grad():
        found = model.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()}, strict=False)
    if missing := [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]:
        raise ValueError(f"no weights for {', '.join(missing[:3])}")
    return model


def freeze(model, frozen):
    """Trains all tensors but the frozen ones; a BatchNorm with frozen weights uses its running statistics."""
    model.train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f"{name}.weight" in frozen:
            module.eval()


def main():
    with np.load(sys.argv[1]) as file:
        tensors = {name: file[name] for name in file.files}
    about, images = json.loads(str(tensors.pop("about"))), tensors.pop("images")
    print(json.dumps({"torch": torch.__version__, "device": DEVICE}), flush=True)
    modes = {}
    for line in sys.stdin:
        name = line.strip()
        # Short products (TF32) of fp32 on a GPU, as JAX has them by default, but not where the scores are compared.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name != "scores"
        try:
            if name == "scores":
                x = torch.from_numpy(images).permute(0, 3, 1, 2).to(DEVICE)
                with torch.no_grad():
                    answer = {"scores": build(about, tensors).to(DEVICE)(x).float().cpu().tolist()}
            else:
                if name not in modes:
                    modes[name] = Mode(about, tensors, images, name)
                answer = {"seconds": modes[name]()}
        except Exception as error:  # e.g. torch.compile without a C++ compiler: the other modes are still measured
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
