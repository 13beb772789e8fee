"""What the loss of a training says of it, in words: whether it failed, which model to trust."""

from __future__ import annotations

import math

from fastrnn.checks import listed
from fastrnn.config import OPTIMIZERS, Config
from fastrnn.storage.checkpoint import Checkpoint

# The smooth loss is an average over about so many updates; before, it is still mostly its start.
WINDOW = 1000
EXPLODED = 1.5  # times the lowest smooth loss: so far above it no start recovers within the window
# How far the smooth loss ends above its lowest: by a factor, and in nats a character, as the loss
# of a text that is nearly known by heart doubles for nothing.
FAR = 1.25, 0.2  # beyond what the parts of one text differ in
HIGHER = 1.05, 0.05  # beyond what it varies by from update to update
UNREAD = 0.1  # of the text
RISE = 0.02  # nats per character by which the validation loss ends above its lowest


def failed(checkpoint: Checkpoint) -> bool:
    """Whether no update has improved on the untrained model, although there were enough."""
    best, last = checkpoint.best, checkpoint.last
    if best.validation_loss is not None:
        # An untrained model holds all characters for about equally likely.
        characters = len(checkpoint.vocabulary)
        hopeless = characters > 1 and best.validation_loss >= math.log(characters)
        return hopeless and last.update >= WINDOW
    if best.update > 0 or best.smooth_loss == 0.0:  # a text of one character has nothing to learn
        return False
    return last.update >= WINDOW or last.smooth_loss > EXPLODED * best.smooth_loss


def calmer(config: Config, *others: str) -> str:
    """What makes the steps of a training smaller, and other remedies, in words."""
    words = [f"a lower learning rate than {config.learning_rate:g}"]
    if config.input_rate > 1:
        words.append(f"a lower input-rate than {config.input_rate:g}")
    if config.weight_decay > OPTIMIZERS[config.optimizer]["weight_decay"]:
        words.append(f"less weight-decay than {config.weight_decay:g}")
    clip = "a clip-norm" if config.clip == config.clip_norm == math.inf else "a smaller clip-norm"
    if config.clip < math.inf:
        clip = "a smaller clip"
    return f"try {listed([*words, *others, clip], 'or')}"


def diagnose(checkpoint: Checkpoint) -> list[str]:
    """Warnings for the user of a training that is over, each with what to try."""
    config, best, last = checkpoint.config, checkpoint.best, checkpoint.last

    def rose(by: tuple[float, float]) -> bool:
        factor, nats = by
        rise = last.smooth_loss - best.smooth_loss
        return rise > max((factor - 1) * best.smooth_loss, nats * config.loss_length)

    if failed(checkpoint):
        return [
            "no update improved on the untrained model, which is what was kept; "
            + calmer(config, "fewer hidden units")
        ]
    per_epoch = checkpoint.updates_per_epoch
    read_since = (last.update - best.update) / per_epoch
    unread = 1.0 - best.update / per_epoch
    # Worse than to hold all characters for equally likely, it is not the text's fault.
    learnt = last.smooth_loss <= config.loss_length * math.log(len(checkpoint.vocabulary))
    by_smooth_loss = best.validation_loss is None
    # In a random order, what was not read yet is like what was.
    by_place = config.order == "sequential" and not config.lines
    comparable = learnt and by_smooth_loss and by_place
    if comparable and min(read_since, unread) >= UNREAD and rose(HIGHER):
        return [
            f"the best model is that of update {best.update:,}, in the first epoch: it has not "
            f"seen the last {100 * unread:.0f} % of the text, where the loss is higher; train for "
            "more epochs, mix the parts of the text, or write with the last model (synth --last)"
        ]
    if last.update >= WINDOW and rose(FAR):
        return [
            f"the smooth loss ends at {last.smooth_loss:.4g}, far above its lowest, "
            f"{best.smooth_loss:.4g} at update {best.update:,}; {calmer(config)}"
        ]
    # With patience the training has ended there.
    if best.validation_loss is not None and config.patience is None:
        ended = checkpoint.history.validation_loss[-1]
        learns = last.smooth_loss < best.smooth_loss
        if learns and read_since >= 1 and ended > best.validation_loss + RISE:
            return [
                f"validation rose after epoch {best.update / per_epoch:.1f}, from "
                f"{best.validation_loss:.4f} to {ended:.4f} nats per character: the network learns "
                f"its text by heart; try more dropout than {config.dropout:g}, fewer hidden units, "
                "or more text"
            ]
    return []
