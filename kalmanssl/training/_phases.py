"""Progress of work in several phases: one bar on a terminal, otherwise one line for each phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any

from kalmanssl.utils.progress import listen_to_progress
from kalmanssl.utils.text import duration_text

__all__ = ["Phase", "Phases", "active_phases"]

_STAGES = {"fit": (0.0, 0.8), "fit dynamics": (0.8, 0.2)}  # start and share of the stages of a training in its phase
_REFERENCE = " (0: the latents are predicted no better than by their average)"  # of the gain
_SHORT = 0.02  # share of the work after which the remaining time is estimated


@dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes
    ----------
    name : str
        Name on the bar.
    weight : float
        Its expected share of the time, in any unit.
    is_training : bool
        Whether a model is trained in it. Such a phase begins by itself with the training.
    """

    name: str
    weight: float
    is_training: bool = False


class Phases:
    """Show the phase, the share of all work that is done, the times passed and left, and the score of a training.

    Inside the ``with`` block, `kalmanssl.training.train` has no bar of its own: the bar of the phases moves on. It also
    moves with `report_progress`.

    Parameters
    ----------
    phases : sequence of Phase
        In the order in which they begin. Phases can be skipped.
    logger : callable
        Called with a line of text as each phase begins, if standard error is not a terminal.
    console : rich.console.Console, optional
        By default that of standard error.
    """

    def __init__(self, phases: Sequence[Phase], logger: Callable[[str], None], console: Any = None) -> None:
        from rich.console import Console

        self.phases, self.logger = list(phases), logger
        self._total = sum(phase.weight for phase in phases)
        self._console = Console(stderr=True) if console is None else console
        self._number, self._share, self._score, self._logged = -1, 0.0, "", ""
        self._is_explained = False
        self._began = self._phase_began = time.perf_counter()
        self._bar: Any = None
        self._token: Token[Phases | None] | None = None
        self._listening = listen_to_progress(lambda share: self.show_part("", share))

    def __enter__(self) -> Phases:
        self._began = time.perf_counter()
        if self._console.is_terminal:
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
            self._bar = Progress(*columns, TextColumn("{task.fields[more]}"), console=self._console)
            self._line = self._bar.add_task("", total=1.0, more="")
            self._bar.start()
        self._token = _ACTIVE.set(self)
        self._listening.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._token is not None:
            self._listening.__exit__(None, None, None)
            _ACTIVE.reset(self._token)
        if kind is None:
            self._end_phase()
            self._show(1.0)
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str) -> None:
        """Begin the phase of this name; the phases before it are over."""
        self._begin([phase.name for phase in self.phases].index(name))

    def begin_training(self, stage: str) -> None:
        """Begin a stage of a training; its first stage begins the next phase with a training, if there is one."""
        current = self.phases[self._number] if self._number >= 0 else None
        later = [n for n, phase in enumerate(self.phases) if phase.is_training and n > self._number]
        is_first = stage not in _STAGES or _STAGES[stage][0] == 0.0
        if later and (is_first or current is None or not current.is_training):
            self._begin(later[0])
        self.show_part(stage, 0.0)

    def show_part(self, stage: str, share: float) -> None:
        """Show which share of a stage of a training, or of the phase if the stage has another name, is done."""
        start, width = _STAGES.get(stage, (0.0, 1.0))
        self._share = start + width * min(share, 1.0)
        self._show()

    def show_score(self, score: str) -> None:
        """Show a score, or what else the phase is doing."""
        self._score = score
        self._show()

    @property
    def score(self) -> str:
        """The text that is shown last."""
        return self._score

    def _begin(self, number: int) -> None:
        self._end_phase()
        self._number, self._share, self._score = number, 0.0, ""
        self._phase_began = time.perf_counter()
        if self._bar is None:
            self.logger(f"phase {number + 1} of {len(self.phases)}: {self.phases[number].name}")
        self._show()

    def _end_phase(self) -> None:
        """Log the time and the score of a training, if no bar shows them."""
        if self._bar is None and self._number >= 0 and self._score:
            seconds = duration_text(round(time.perf_counter() - self._phase_began))
            reference = "" if self._is_explained or " gain " not in self._score else _REFERENCE
            self._is_explained |= bool(reference)
            self.logger(f"{self.phases[self._number].name}: {seconds}, {self._score}{reference}")

    def _show(self, share: float | None = None) -> None:
        """Move the bar."""
        if self._bar is None or self._number < 0:
            return
        if share is None:
            done = sum(phase.weight for phase in self.phases[: self._number])
            share = (done + self._share * self.phases[self._number].weight) / self._total
        passed = time.perf_counter() - self._began
        left = f", about {duration_text(round(passed * (1 - share) / share))} left" if _SHORT < share < 1.0 else ""
        more = "  ".join(filter(None, [f"{duration_text(round(passed))}{left}", self._score]))
        name = f"{self._number + 1}/{len(self.phases)} {self.phases[self._number].name}" if share < 1.0 else "done"
        self._bar.update(self._line, completed=share, description=name, more=more)


_ACTIVE: ContextVar[Phases | None] = ContextVar("phases", default=None)


def active_phases() -> Phases | None:
    """Return the phases whose ``with`` block is running, or None."""
    return _ACTIVE.get()
