"""PyTorch: with gradients by autograd in three forms, and by hand.

torch.optim.Adagrad adds its epsilon outside the root, so that optimizer is by hand. Tried and left
out: the gradient by hand, compiled with Inductor's C++ wrapper. It halves the time at m = 100 with
one stream, where JAX takes half of this again, and gains little or nothing with more. And
torch.compile around nn.LSTM and nn.GRU, which it leaves as they are; their loops over 64 steps take
it minutes to compile.
"""

from __future__ import annotations

import math
import shutil

import torch
import torch.nn.functional as F

from fastrnn.measure.methods import LeftOut, Problem, Training
from fastrnn.parameters import Parameters


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def make(problem: Problem, form: str) -> Training:
    """`module`: torch.nn's; `loop`: a loop over time; `compile`: this loop, compiled; `hand`."""
    config = problem.config
    if config.dropout or config.optimizer not in ("adagrad", "adam") or config.weight_decay:
        raise LeftOut("is not written for this dropout and optimizer")
    if config.layers > 1 and form != "module":
        raise LeftOut("is not written for layers")
    if form == "compile" and not (shutil.which("g++") or shutil.which("clang++")):
        raise LeftOut("needs a C++ compiler")
    if form == "module":
        return Vanilla(problem) if config.cell == "rnn" else Gated(problem)
    return ByHand(problem) if form == "hand" else Loop(problem, compiled=form == "compile")


class Text(Training):
    """The problem as tensors, and the optimizer."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        torch.set_num_threads(problem.threads)
        self.codes = torch.from_numpy(problem.codes).long()
        self.initial = {name: torch.from_numpy(x) for name, x in problem.initial.items()}
        self.theta = [x.clone() for x in self.initial.values()]

    def reset(self, squares: float = 0.0) -> None:
        problem, config = self.problem, self.problem.config
        squares = problem.first_squares(squares)
        self.squares = [torch.full_like(x, squares, requires_grad=False) for x in self.theta]
        if config.optimizer == "adam":
            betas = config.beta1, config.beta2
            self.adam = torch.optim.Adam(
                self.theta, config.learning_rate, betas, config.epsilon, fused=True
            )
            for theta, buffer in zip(self.theta, self.squares, strict=True):
                first = {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(buffer)}
                self.adam.state[theta] = {**first, "exp_avg_sq": buffer}
        shape = problem.B, config.hidden
        states = config.layers * (2 if config.cell == "lstm" else 1)
        self.state = torch.zeros(states, *shape, dtype=self.theta[0].dtype)
        self.i = 0
        with torch.no_grad():
            self.set_parameters()

    def set_parameters(self) -> None:
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
        """In place, in a handful of calls for all parameters."""
        config = self.problem.config
        if config.clip_norm < math.inf:
            norm = torch.stack(torch._foreach_norm(gradient)).norm()
            factor = torch.clamp(config.clip_norm / (norm + 1e-6), max=1.0)
            torch._foreach_mul_(gradient, factor)
        if config.clip < math.inf:
            torch._foreach_clamp_min_(gradient, -config.clip)
            torch._foreach_clamp_max_(gradient, config.clip)
        if config.optimizer == "adam":
            for theta, g in zip(self.theta, gradient, strict=True):
                theta.grad = g.contiguous()  # the fused loop reads it so
            self.adam.step()
            return
        torch._foreach_addcmul_(self.squares, gradient, gradient)
        root = torch._foreach_add(self.squares, config.epsilon)
        torch._foreach_sqrt_(root)
        torch._foreach_addcdiv_(self.theta, gradient, root, -config.learning_rate)


class Autograd(Text):
    """Gradients by autograd, of what `forward` makes of a chunk."""

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        o, state = self.forward(x, self.state)
        loss = F.cross_entropy(o, y.reshape(-1), reduction="sum") / self.problem.B
        self.update(list(torch.autograd.grad(loss, self.theta)))
        self.state = state.detach()
        return loss.detach()


class Vanilla(Autograd):
    """nn.RNN on one-hot vectors."""

    def __init__(self, problem: Problem):
        super().__init__(problem)
        if problem.config.layers > 1:
            raise LeftOut("is not written for layers")
        m, K = problem.config.hidden, problem.K
        self.net = torch.nn.RNN(K, m, dtype=self.theta[0].dtype)
        torch.nn.init.zeros_(self.net.bias_hh_l0).requires_grad_(False)
        self.eye = torch.eye(K, dtype=self.theta[0].dtype)
        _, _, V, _, c = (x.requires_grad_() for x in self.theta)
        self.theta = [self.net.weight_ih_l0, self.net.weight_hh_l0, V, self.net.bias_ih_l0, c]

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, _, V, _, c = self.theta
        states, last = self.net(self.eye[x], state)
        return F.linear(states.flatten(0, 1), V, c), last


class Gated(Autograd):
    """nn.LSTM or nn.GRU on a learned embedding of size m, as people use it.

    The embedding starts as unit vectors, and the product with it as U, which makes this the same
    model. It has more parameters, which are trained but for the comparison with the reference: the
    embedding, and a second bias of all gates.
    """

    def __init__(self, problem: Problem):
        super().__init__(problem)
        config, m, K = problem.config, problem.config.hidden, problem.K
        if m < K:
            raise LeftOut("needs as many hidden units as characters")
        dtype = self.theta[0].dtype
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[config.cell]
        self.embedding = torch.nn.Embedding(K, m, dtype=dtype)
        self.net = kind(m, m, config.layers, dtype=dtype)
        self.output = torch.nn.Linear(m, K, dtype=dtype)
        modules = self.embedding, self.net, self.output
        self.theta = [theta for module in modules for theta in module.parameters()]
        # Of the second bias that which ours has, too: the n of a GRU.
        self.only_second = torch.zeros(len(self.net.bias_hh_l0), dtype=dtype)
        if config.cell == "gru":
            self.only_second[2 * m :] = 1

    def pairs(self) -> dict[str, torch.Tensor]:
        """Views of what is ours."""
        m, net = self.problem.config.hidden, self.net
        views = {"U": net.weight_ih_l0[:, : self.problem.K], "V": self.output.weight}
        views["c"] = self.output.bias
        for layer in range(self.problem.config.layers):
            number = str(layer + 1) if layer else ""
            if layer:
                views[f"X{number}"] = getattr(net, f"weight_ih_l{layer}")
            views[f"W{number}"] = getattr(net, f"weight_hh_l{layer}")
            views[f"b{number}"] = getattr(net, f"bias_ih_l{layer}")
            views[f"n{number}"] = getattr(net, f"bias_hh_l{layer}")[2 * m :]
        return {name: views[name] for name in self.initial}

    def set_parameters(self) -> None:
        for theta in self.theta:
            theta.zero_()
        torch.nn.init.eye_(self.embedding.weight)
        for name, view in self.pairs().items():
            view.copy_(self.initial[name])

    def parameters(self) -> Parameters:
        return {name: view.detach().numpy() for name, view in self.pairs().items()}

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        is_lstm = self.problem.config.cell == "lstm"
        h, last = self.net(self.embedding(x), tuple(state.chunk(2)) if is_lstm else state)
        return self.output(h.flatten(0, 1)), torch.cat(last) if is_lstm else last

    def update(self, gradient: list[torch.Tensor]) -> None:
        if not self.extra:
            for theta, g in zip(self.theta, gradient, strict=True):
                if theta is self.embedding.weight:
                    g.zero_()
            for layer in range(self.problem.config.layers):
                second = getattr(self.net, f"bias_hh_l{layer}")
                position = next(i for i, theta in enumerate(self.theta) if theta is second)
                gradient[position].mul_(self.only_second)
        super().update(gradient)


class Loop(Autograd):
    """Rows of U, and a loop over time."""

    def __init__(self, problem: Problem, compiled: bool):
        super().__init__(problem)
        for theta in self.theta:
            theta.requires_grad_()
        if compiled:
            self.forward = torch.compile(self.forward, dynamic=False)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        of = dict(zip(self.initial, self.theta, strict=True))
        cell = {"rnn": self.rnn, "lstm": self.lstm, "gru": self.gru}[self.problem.config.cell]
        states = []
        inputs = F.embedding(x, of["U"].T) + of["b"]
        for a in inputs.unbind():
            state = cell(a, state, of)
            states.append(state[0])
        return F.linear(torch.cat(states), of["V"], of["c"]), state

    def rnn(self, a: torch.Tensor, state: torch.Tensor, of: dict) -> torch.Tensor:
        return torch.tanh(torch.addmm(a, state[0], of["W"].T))[None]

    def lstm(self, a: torch.Tensor, state: torch.Tensor, of: dict) -> torch.Tensor:
        i, f, g, o = torch.addmm(a, state[0], of["W"].T).chunk(4, 1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.stack((torch.sigmoid(o) * torch.tanh(c), c))

    def gru(self, a: torch.Tensor, state: torch.Tensor, of: dict) -> torch.Tensor:
        h, m = state[0], self.problem.config.hidden
        product = h @ of["W"].T
        r, z = torch.sigmoid(a[:, : 2 * m] + product[:, : 2 * m]).chunk(2, 1)
        n = torch.tanh(a[:, 2 * m :] + r * (product[:, 2 * m :] + of["n"]))
        return (n + z * (h - n))[None]


class ByHand(Text):
    """The reference's vanilla RNN in PyTorch's operations: autograd adds up dW step by step."""

    @torch.no_grad()
    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        U, W, V, b, c = self.theta
        (T, B), m = x.shape, len(W)
        states = torch.empty(T + 1, B, m, dtype=W.dtype)
        states[0] = self.state[0]
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
        self.state = states[-1:].clone()
        return loss
