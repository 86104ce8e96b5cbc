"""The actions of the toy world: what a solid does over a stretch of time, in its own motion and nowhere else."""

from dataclasses import dataclass

#: Names of the actions in label order: action id 1 is the first one.
ACTIONS = (
    'moving left',
    'moving right',
    'moving up',
    'moving down',
    'growing',
    'shrinking',
    'blinking',
    'turning',
)


@dataclass(frozen=True)
class Motion:
    """How one solid changes while time runs; all rates are constant.

    Attributes:
        velocity: ``(x, y)`` in pixels a frame.
        growth: Change of the logarithm of the size in one frame.
        spin: Radians a frame.
        switch_every: Frames between two changes of colour; 0 if the colour stays.
        switch_phase: Frames by which the first change comes earlier than that.
    """

    velocity: tuple[float, float] = (0.0, 0.0)
    growth: float = 0.0
    spin: float = 0.0
    switch_every: int = 0
    switch_phase: int = 0

    @property
    def actions(self) -> tuple[int, ...]:
        """Ids of the actions this motion shows, rising from 1; several, one or none."""
        x, y = self.velocity
        shown = (x < 0, x > 0, y < 0, y > 0, self.growth > 0, self.growth < 0, self.switch_every > 0, self.spin != 0)
        return tuple(index + 1 for index, is_shown in enumerate(shown) if is_shown)

    def switches(self, elapsed: float) -> int:
        """How often the colour has changed ``elapsed`` frames after the motion began."""
        return int((elapsed + self.switch_phase) // self.switch_every) if self.switch_every else 0
