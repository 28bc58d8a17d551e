"""What adversarial trainings have in common, of tokenizers of clips and of sound."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from videolm.train.engine import EngineConfig
from videolm.train.loop import TrainingConfig

Weight = Annotated[float, Field(ge=0)]


class AdversarialTraining(TrainingConfig):
    """A training that a discriminator may join. `videolm.tokenizers.losses.adversarial` says what the terms are."""

    discriminator_start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps before the discriminator comes in."""
    adversarial: Weight = 1.0
    lecam: Weight = 0.0
    r1: Weight = 0.0
    r1_every: Annotated[int, Field(ge=1)] = 1
    """Steps between two in which the gradient's term is computed, with as much more weight (arXiv 1912.04958)."""

    def adversarial_weights(self, step: int) -> dict[str, float]:
        """The weight of each term of the discriminator's at `step`; none before it comes in."""
        if step < self.discriminator_start * self.steps:
            return {}
        r1 = self.r1 * self.r1_every * (step % self.r1_every == 0)
        weights = {"adversarial": self.adversarial, "discriminator": 1.0}
        return weights | {name: weight for name, weight in (("lecam", self.lecam), ("r1", r1)) if weight}


def with_whole_weights(engine: EngineConfig) -> EngineConfig:
    """How a training with a discriminator is computed: one pass goes through its weights as constants, which ZeRO
    stage 3 does not have whole, so that it is stage 2 there."""
    if engine.zero_stage < 3:
        return engine
    offload = "none" if engine.offload == "none" else "optimizer"
    return engine.model_copy(update={"zero_stage": 2, "offload": offload})
