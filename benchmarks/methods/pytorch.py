"""PyTorch: with gradients by autograd in three forms, and by hand.

torch.optim.Adagrad adds its epsilon outside the root, so the optimizer is by hand. Tried and left
out: the gradient by hand, compiled with Inductor's C++ wrapper. It halves the time at m = 100 with
one stream, where JAX takes half of this again, and gains little or nothing with more.
"""

from __future__ import annotations

import shutil

import torch
import torch.nn.functional as F

from fastrnn.measure.methods import LeftOut, Problem, Training
from fastrnn.parameters import Parameters
from fastrnn.reference import EPSILON


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


class Text(Training):
    """The problem as tensors, and the optimizer."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        torch.set_num_threads(problem.threads)
        self.codes = torch.from_numpy(problem.codes).long()
        self.initial = {name: torch.from_numpy(x) for name, x in problem.initial.items()}
        self.theta = [x.clone() for x in self.initial.values()]

    def reset(self, squares: float = 0.0) -> None:
        self.squares = [torch.full_like(x, squares, requires_grad=False) for x in self.theta]
        self.h = torch.zeros(self.problem.B, self.problem.config.hidden, dtype=self.theta[0].dtype)
        self.i = 0
        with torch.no_grad():
            for theta, start in zip(self.theta, self.initial.values(), strict=True):
                theta.copy_(start)

    def train(self, updates: int) -> float:
        for _ in range(updates):
            start = self.problem.start(self.i)
            chunk = self.codes[start : start + self.problem.T + 1]
            loss = self.step(chunk[:-1], chunk[1:])
            self.i += 1
        return loss.item()

    def parameters(self) -> Parameters:
        return {
            name: theta.detach().numpy()
            for name, theta in zip(self.initial, self.theta, strict=True)
        }

    @torch.no_grad()
    def update(self, gradient: list[torch.Tensor]) -> None:
        """AdaGrad in place, in a handful of calls for all parameters."""
        config = self.problem.config
        torch._foreach_clamp_min_(gradient, -config.clip)
        torch._foreach_clamp_max_(gradient, config.clip)
        torch._foreach_addcmul_(self.squares, gradient, gradient)
        root = torch._foreach_add(self.squares, EPSILON)
        torch._foreach_sqrt_(root)
        torch._foreach_addcdiv_(self.theta, gradient, root, -config.learning_rate)


class Autograd(Text):
    """nn.RNN on one-hot vectors; rows of U and a loop over time; or this loop, compiled."""

    def __init__(self, problem: Problem, form: str):
        super().__init__(problem)
        self.forward = self.rnn if form == "rnn" else self.loop
        if form == "rnn":
            m, K = problem.config.hidden, problem.K
            self.net = torch.nn.RNN(K, m, dtype=self.theta[0].dtype)
            torch.nn.init.zeros_(self.net.bias_hh_l0).requires_grad_(False)
            self.eye = torch.eye(K, dtype=self.theta[0].dtype)
            _, _, V, _, c = self.theta
            self.theta = [self.net.weight_ih_l0, self.net.weight_hh_l0, V, self.net.bias_ih_l0, c]
        if form == "compile":
            if not (shutil.which("g++") or shutil.which("clang++")):
                raise LeftOut("needs a C++ compiler")
            self.forward = torch.compile(self.forward, dynamic=False)
        for theta in self.theta:
            theta.requires_grad_()

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        o, h = self.forward(x, self.h)
        loss = F.cross_entropy(o, y.reshape(-1), reduction="sum") / self.problem.B
        self.update(list(torch.autograd.grad(loss, self.theta)))
        self.h = h.detach()
        return loss.detach()

    def rnn(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, _, V, _, c = self.theta
        states, last = self.net(self.eye[x], h[None])
        return F.linear(states.flatten(0, 1), V, c), last[0]

    def loop(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        U, W, V, b, c = self.theta
        states = []
        for a in (F.embedding(x, U.T) + b).unbind():
            h = torch.tanh(torch.addmm(a, h, W.T))
            states.append(h)
        return F.linear(torch.cat(states), V, c), h


class ByHand(Text):
    """The reference in PyTorch's operations: autograd would add up dW step by step."""

    @torch.no_grad()
    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        U, W, V, b, c = self.theta
        (T, B), m = x.shape, len(W)
        states = torch.empty(T + 1, B, m, dtype=W.dtype)
        states[0] = self.h
        h = states.unbind()
        for t, a in enumerate((F.embedding(x, U.T) + b).unbind()):
            torch.addmm(a, h[t], W.T, out=h[t + 1]).tanh_()
        H = states[1:].view(T * B, m)
        do = torch.log_softmax(torch.addmm(c, H, V.T), 1)
        y = y.reshape(-1, 1)
        loss = -do.gather(1, y).sum() / B
        do.exp_().scatter_add_(1, y, torch.full_like(y, -1, dtype=W.dtype)).div_(B)
        da = (do @ V).view(T, B, m)
        d, slope = da.unbind(), (1 - states[1:].square()).unbind()
        d[-1].mul_(slope[-1])
        for t in range(T - 2, -1, -1):
            d[t].addmm_(d[t + 1], W).mul_(slope[t])
        da = da.view(T * B, m)
        dU = torch.zeros_like(U.T).index_add_(0, x.reshape(-1), da).T
        dW = da.T @ states[:-1].view(T * B, m)
        self.update([dU, dW, do.T @ H, da.sum(0), do.sum(0)])
        self.h = states[-1].clone()
        return loss
