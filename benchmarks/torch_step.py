"""Chapter 4's joint step of C, F and D, written plainly in PyTorch.

The same networks, losses and optimizers as ``jaxssl.methods.transformations``, from the
same weights, on views whose random draws and sampling grids are given: what
``benchmarks/train_step.py`` compares with.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional as F  # noqa: N812

# --- Losses


class Draw(NamedTuple):
    """A batch and all that is random in it, made before the clock starts.

    Attributes:
      canvas: uint8 (b, 3, s, s).
      rows: int64 (b, p), rows of the patch on the canvas.
      columns: int64 (b, p).
      noise: (b, 3, p, p), for the inside of the patches.
      grids: (b, t, t, 2) for ``grid_sample``, by stream: base, warp, lci.
    """

    canvas: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    noise: torch.Tensor
    grids: dict[str, torch.Tensor]


def make_draw(arrays: dict[str, torch.Tensor]) -> Draw:
    """Bring the arrays of ``chapter4.make_draw`` to channels first."""
    streams = ("base", "warp", "lci")
    return Draw(
        canvas=arrays["canvas"].permute(0, 3, 1, 2).contiguous(),
        rows=arrays["rows"].long(),
        columns=arrays["columns"].long(),
        noise=arrays["noise"].permute(0, 3, 1, 2).contiguous(),
        grids={name: arrays[name] for name in streams},
    )


def _places(draw: Draw):
    index = torch.arange(len(draw.rows))[:, None, None]
    return index, slice(None), draw.rows[:, :, None], draw.columns[:, None, :]


def cut(images, draw: Draw):
    """Cut the patches (b, 3, p, p)."""
    return images[_places(draw)].permute(0, 3, 1, 2)


def paste(images, patches, draw: Draw):
    """Put patches into copies of the images."""
    images = images.clone()
    images[_places(draw)] = patches.permute(0, 2, 3, 1)
    return images


def make_views(canvas, inpainted, reconstructed, draw: Draw, classes: tuple[str, ...]):
    """Make one view of each canvas for each class, class after class."""
    odd = (torch.arange(len(canvas)) % 2 == 1)[:, None, None, None]
    sources = torch.where(odd, paste(canvas, reconstructed, draw), canvas)
    base = _sample(sources, draw.grids["base"])
    views = []
    for name in classes:
        if name == "warp":
            views.append(_sample(canvas, draw.grids["warp"]))
        elif name == "lci":
            views.append(_sample(paste(canvas, inpainted, draw), draw.grids["lci"]))
        else:
            turns = ("none", "rot90", "rot180", "rot270").index(name)
            views.append(torch.rot90(base, turns, (2, 3)))
    return torch.cat(views)


def _sample(images, grid):
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)


def paint(inpainter, erased, patch):
    """Run F once on erased and clean patches together."""
    return inpainter(torch.cat([erased, patch])).chunk(2)


def classifier_loss(classifier, views, labels):
    """Return the mean cross-entropy of C."""
    return F.cross_entropy(classifier(views), labels)


def pack(patches, count: int):
    """Concatenate neighbouring patches on channels, as D judges them."""
    b, c, h, w = patches.shape
    return patches.reshape(b // count, count * c, h, w)


def inpainter_loss(critic, inpainted, reconstructed, patch, border, config):
    """Return F's own losses: hinge, border and autoencoding."""
    fake = critic(pack(inpainted, config.critic_patches), False)
    error = ((inpainted - patch).square() * border).sum() / (
        border.sum() * 3 * len(patch)
    )
    autoencode = (reconstructed - patch).square().mean()
    loss = -fake.mean() + config.lambda_border * error
    return loss + config.lambda_autoencode * autoencode


def critic_loss(critic, patch, inpainted, count: int):
    """Return the hinge loss of D."""
    both = torch.cat([pack(patch, count), pack(inpainted, count)])
    real, fake = critic(both, True).chunk(2)
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


# --- The step


@dataclasses.dataclass(frozen=True)
class Functions:
    """The five pieces of the forward pass, eager or compiled."""

    make_views: Callable = make_views
    paint: Callable = paint
    classifier_loss: Callable = classifier_loss
    inpainter_loss: Callable = inpainter_loss
    critic_loss: Callable = critic_loss


EAGER = Functions()


def compiled() -> Functions:
    """Return each piece through ``torch.compile``."""
    plain = vars(EAGER)
    return Functions(**{k: torch.compile(f, dynamic=False) for k, f in plain.items()})


class Trainer:
    """C, F and D with their optimizers."""

    def __init__(self, config, players, optimizers, draw, *, layout, functions):
        self.config, self.draw, self.f = config, draw, functions
        self.players, self.optimizers = players, optimizers
        self.layout = layout
        for module in players.values():
            module.to(memory_format=layout)
        inner = slice(config.border, -config.border)
        side = config.patch_size
        self.border = torch.ones(1, 1, side, side)
        self.border[:, :, inner, inner] = 0
        classes = torch.arange(len(config.classes))
        self.labels = classes.repeat_interleave(len(draw.canvas))

    def prepare(self):
        """Return canvases, clean and erased patches in [-1, 1]."""
        canvas = self.draw.canvas.to(torch.float32, memory_format=self.layout)
        canvas = canvas / 127.5 - 1
        patch = cut(canvas, self.draw)
        erased = torch.where(self.border > 0, patch, self.draw.noise)
        return canvas, patch, erased

    def views(self, canvas, painted):
        """Make C's input."""
        return self.f.make_views(canvas, *painted, self.draw, self.config.classes)

    def adversary(self, patch, painted):
        """Backpropagate D's loss; return F's loss, its gradients and D's loss."""
        critic = self.players["critic"]
        leaves = [x.detach().requires_grad_() for x in painted]
        critic.requires_grad_(False)
        own = self.f.inpainter_loss(critic, *leaves, patch, self.border, self.config)
        grads = torch.autograd.grad(own, leaves)
        critic.requires_grad_(True)
        inpainted = painted[0].detach()
        hinge = self.f.critic_loss(critic, patch, inpainted, self.config.critic_patches)
        hinge.backward()
        return own, grads, hinge

    def update(self):
        """Step and forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def backward(self) -> dict[str, torch.Tensor]:
        """Differentiate all losses at the same parameters; return the losses."""
        canvas, patch, erased = self.prepare()
        painted = self.f.paint(self.players["inpainter"], erased, patch)
        leaves = [x.detach().requires_grad_() for x in painted]
        views = self.views(canvas, leaves)
        loss = self.f.classifier_loss(self.players["classifier"], views, self.labels)
        loss.backward()
        own, from_own, hinge = self.adversary(patch, painted)
        weight = self.config.lambda_classifier
        pairs = zip(from_own, leaves, strict=True)
        torch.autograd.backward(painted, [o - weight * x.grad for o, x in pairs])
        losses = {"classifier": loss, "inpainter": own - weight * loss, "critic": hinge}
        return {f"loss/{name}": value.detach() for name, value in losses.items()}

    def step(self) -> dict[str, torch.Tensor]:
        """Train one step; return the losses."""
        losses = self.backward()
        self.update()
        return losses

    def parts(self) -> dict[str, Callable[[], object]]:
        """Return the parts of the step, each on its own."""
        canvas, patch, erased = self.prepare()
        painted = [x.detach() for x in paint(self.players["inpainter"], erased, patch)]
        views = self.views(canvas, painted).detach().requires_grad_()

        def make():
            with torch.no_grad():
                self.views(self.prepare()[0], painted)

        def classify():
            c = self.players["classifier"]
            self.f.classifier_loss(c, views, self.labels).backward()

        def inpaint():
            out = self.f.paint(self.players["inpainter"], erased, patch)
            torch.autograd.backward(out, painted)

        return {
            "views, forward": make,
            "C, forward + backward": classify,
            "F, forward + backward": inpaint,
            "D, both losses": lambda: self.adversary(patch, painted),
            "optimizers": self._optimize,
        }

    def _optimize(self):
        for optimizer in self.optimizers:
            optimizer.step()


def make_optimizers(players, optim) -> list[torch.optim.Optimizer]:
    """Return AdamW for C, without decay of its norms, and Adam for F and D.

    The cosine of the rate is left out: it costs nothing and is 1 at the start.
    """
    first = optim["classifier"]
    norms, others = [], []
    for name, parameter in players["classifier"].named_parameters():
        (norms if ".norm." in name else others).append(parameter)
    decay = first["weight_decay"]
    if not first["decay_times_rate"]:
        decay /= first["learning_rate"]
    groups = [{"params": others, "weight_decay": decay}, {"params": norms}]
    adamw = torch.optim.AdamW(
        groups,
        lr=first["learning_rate"],
        betas=(first["b1"], first["b2"]),
        weight_decay=0.0,
        fused=True,
    )
    return [adamw] + [
        torch.optim.Adam(
            players[name].parameters(),
            lr=optim[name]["learning_rate"],
            betas=(optim[name]["b1"], optim[name]["b2"]),
            fused=True,
        )
        for name in ("inpainter", "critic")
    ]
