"""The training loop: steps, validations and checkpoints, as a generator of events."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from charlstm.errors import CharlstmError, reason_of
from charlstm.events import (
    BudgetFixed,
    Evaluated,
    Event,
    RolledBack,
    RunFinished,
    RunStarted,
    Saved,
    SaveFailed,
    StepDone,
)
from charlstm.runs.checkpoint import ModelFile, ResumeState, write_checkpoint
from charlstm.runs.lock import check_lock
from charlstm.runs.pointers import add_checkpoint, read_pointers, sweep
from charlstm.runs.run import RunFile, write_run_file
from charlstm.training.learner import Learner
from charlstm.training.network import to_arrays
from charlstm.training.processes import Processes
from charlstm.training.progress import Progress
from charlstm.training.schedule import Pace, Plan
from charlstm.training.validation import HeldOut

REPORT_SECONDS = 0.2
SAVE_SECONDS = 60.0
EXPLODED_NATS = 10.0
"""A loss this far above that of uniform guessing counts as exploded."""
MAX_ROLLBACKS = 3
ROLLBACK_RATE = 0.5


@dataclass(frozen=True)
class Snapshot:
    """The full state of a run at one step, as stored in a checkpoint and used by a rollback."""

    model: ModelFile
    state: ResumeState

    @property
    def evaluated(self) -> bool:
        """Whether it was taken after a scheduled validation; a rollback goes to these only.

        Checkpoints of earlier versions do not record this, and count as evaluated.
        """
        return self.state.values.get("evaluated") is not False

    def restore(self, learner: Learner) -> Progress:
        """Restore a learner to this step and return the counters.

        Raises:
            CharlstmError: the arrays are not those of the learner's run.
        """
        try:
            tensors = {n: torch.from_numpy(a.copy()) for n, a in self.state.tensors.items()}
            progress = Progress(**self.state.values["progress"])
            if progress.position != progress.step * learner.config.bptt:
                raise ValueError("its number of steps differs")
            learner.load(tensors, dict(self.model.weights), progress.step)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CharlstmError(
                f"the checkpoint's training state does not fit the run: {error}",
                "resume from another checkpoint, or start a new run with `init_from`",
            ) from None
        return progress


@dataclass(frozen=True)
class Resumption:
    """Where a run resumes: its counters, and the last validation's snapshot for a rollback."""

    progress: Progress
    rollback: Snapshot
    rollback_name: str
    """The checkpoint that holds the snapshot."""


class Trainer:
    """One run, from its current step to the end of its budget.

    ``run`` yields events and never prints. At a yield no computation is in progress, so the
    consumer of the events may read the model without a lock.
    """

    def __init__(
        self,
        path: Path,
        run: RunFile,
        held_out: HeldOut,
        learner: Learner,
        resumption: Resumption | None = None,
        *,
        notices: tuple[str, ...] = (),
        step_seconds: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
        processes: Processes | None = None,
    ) -> None:
        self.path = path
        self.folder = path.absolute()
        """Where the run is, even if the working directory changes."""
        self.run_file = run
        self.learner = learner
        self.is_first = processes is None or processes.rank == 0
        """Whether this one of the run's processes writes and shows it."""
        self.progress = Progress() if resumption is None else resumption.progress
        self.notices = notices
        """Notes for the user before training starts."""
        self.guessed_step_seconds = step_seconds
        """Seconds per step for a first time estimate, before any step is measured."""
        self._config = run.train
        self._held_out = held_out
        self._plan = Plan(
            run.train,
            run.budget,
            val_characters=len(held_out.quick_ids),
            final_characters=len(held_out.ids),
        )
        self._processes = processes or Processes()
        self._own_clock = clock
        self._nats = torch.zeros((), device=learner.precision.device)
        self._worst_loss = self._worst_norm = torch.zeros_like(self._nats)
        """Of the steps since ``_trouble`` was last asked for; not finite if one of them was not."""
        self._pending_steps = 0
        self._rate_multiplier = 0.0
        self._rollback = None if resumption is None else resumption.rollback
        self._rollback_name = None if resumption is None else resumption.rollback_name
        self._saved = None if resumption is None else self._mark()
        """Step and rate of the last checkpoint."""
        self._saved_seconds = self.progress.seconds
        self._budget_written = True
        self._estimated = False
        """Whether the duration was estimated from steps of this session."""

    def _clock(self) -> float:
        """The time in seconds, by the clock of process 0."""
        return self._processes.first(self._own_clock)

    # -- the loop --------------------------------------------------------------------------

    def run(self) -> Iterator[Event]:
        """Train to the end of the budget, an early stop, divergence, or ``request_stop``."""
        begun = self._clock() - self.progress.seconds
        yield self._started()
        pace = self._plan.pace(self._clock())
        if self.progress.step == 0:
            yield from self._evaluate_and_save(begun)
            pace.evaluation_done(self._clock())
        if self.guessed_step_seconds is not None and self._plan.budget.total_steps is not None:
            yield self._estimate(Pace(0.0, 0.0, 0.0, self.guessed_step_seconds))
        # A run that was killed after its last validation, or resumed after its end, is at its end.
        reason = "patience" if self._out_of_patience() else "budget"
        last_report = self._clock()
        while reason == "budget" and self._plan.steps_left(self.progress.step):
            if self._processes.stopping:
                reason = "stopped"
                if trouble := self._trouble(thorough=True):
                    rolled_back = self._roll_back(trouble)
                    if rolled_back is None:
                        reason = "diverged"
                    else:
                        yield rolled_back
                break
            gradient_norm = self.take_step()
            now = self._processes.time_of_step(self._clock)
            self.progress.seconds = now - begun
            if pace.step_done(now):
                yield from self._revise_budget(pace)
            evaluate = self._plan.evaluation_due(self.progress.step)
            if not (evaluate or now - last_report >= REPORT_SECONDS):
                continue
            report = self._report(gradient_norm, now - last_report)
            last_report = now
            due = evaluate or now - begun - self._saved_seconds >= SAVE_SECONDS
            if trouble := self._trouble(thorough=due):
                rolled_back = self._roll_back(trouble)
                if rolled_back is None:
                    reason = "diverged"
                    break
                yield rolled_back
                pace = self._plan.pace(self._clock())
                continue
            yield report
            if evaluate:
                yield from self._evaluate_and_save(begun)
                last_report = self._clock()
                pace.evaluation_done(last_report)
                if self._out_of_patience():
                    reason = "patience"
                    break
            elif due:
                yield self._save(self._capture(), best=False)
        yield from self._finish(reason, begun)

    def _trouble(self, *, thorough: bool) -> str:
        """Why training has diverged since the last check, or the empty string.

        Every step is judged by itself, so the result does not depend on the times of the reports. A
        non-finite gradient breaks the weights, and only the next loss shows it; so the weights
        themselves are checked before they are saved (``thorough``).
        """
        loss, norm = self._worst_loss.item(), self._worst_norm.item()
        self._forget_worst()
        if not math.isfinite(loss + norm):
            return "the loss is not finite"
        if loss > math.log(len(self._held_out.vocab)) + EXPLODED_NATS:
            return f"the loss has exploded to {loss:.3g}"
        if thorough and not self._processes.all(self.learner.is_finite()):
            return "the weights are not finite"
        return ""

    def _forget_worst(self) -> None:
        self._worst_loss = self._worst_norm = torch.zeros_like(self._nats)

    def request_stop(self) -> None:
        """Finish the current step, save and stop; safe to call from a signal handler."""
        self._processes.request_stop()

    def take_step(self) -> Tensor:
        """One step of truncated BPTT; returns the gradient norm before clipping, on the device."""
        progress = self.progress
        self._rate_multiplier = self._plan.rate_multiplier(progress.step) * progress.rate_scale
        loss, norm = self.learner.step(progress.step, self._rate_multiplier)
        progress.step += 1
        progress.position += self._config.bptt
        self._nats += loss  # read only when it is reported: reading waits for a GPU
        self._worst_loss = torch.maximum(self._worst_loss, loss)  # NaN, if one of them is
        self._worst_norm = torch.maximum(self._worst_norm, norm)
        self._pending_steps += 1
        return norm

    # -- budget ----------------------------------------------------------------------------

    def _revise_budget(self, pace: Pace) -> Iterator[BudgetFixed]:
        """Convert minutes to steps as fast as they are taken now."""
        plan = self._plan.revised(self.progress.step, self.progress.seconds, pace)
        if plan is not self._plan or not self._estimated:
            self._record(plan)
            self._estimated = True
            yield self._estimate(pace)

    def _record(self, plan: Plan) -> None:
        """Train by ``plan`` from now on; a resumed run must know it."""
        if plan is not self._plan:
            self._plan = plan
            self.run_file = replace(self.run_file, budget=plan.budget)
            self._budget_written = False
            self._write_budget()

    def _write_budget(self) -> None:
        """Store the budget for a resumed run; on a full disk, the next save tries again."""
        try:
            if self.is_first:
                write_run_file(self.folder, self.run_file)
            self._budget_written = True
        except OSError:
            pass

    def _estimate(self, pace: Pace) -> BudgetFixed:
        progress = self.progress
        total = self._plan.budget.total_steps
        assert total is not None
        return BudgetFixed(
            total_steps=total,
            epochs=self.learner.streams.epoch(total * self._config.bptt),
            seconds=self._plan.seconds(progress.step, progress.seconds, pace),
        )

    # -- validation ------------------------------------------------------------------------

    def _evaluate_and_save(self, begun: float) -> Iterator[Event]:
        progress = self.progress
        improved = True
        if self._held_out:
            average = self.learner.average
            loss = self._held_out.loss(average, self.learner.precision)
            improved = progress.judge(loss, untrained_counts=self._begun_trained)
            gates = self._held_out.gates(average)
            progress.seconds = self._clock() - begun
            assert progress.best_loss is not None
            yield Evaluated(
                step=progress.step,
                epoch=self.learner.streams.epoch(progress.position),
                val_loss=loss,
                best_loss=progress.best_loss,
                best_step=progress.best_step,
                improved=improved,
                seconds=progress.seconds,
                gates=gates,
            )
        self._rollback = self._capture(evaluated=True)
        saved = self._save(self._rollback, best=improved)
        self._rollback_name = saved.path.name if isinstance(saved, Saved) else None
        yield saved

    @property
    def _begun_trained(self) -> bool:
        """Whether step 0 starts from the trained weights of another run."""
        return self.run_file.init_from is not None

    def _out_of_patience(self) -> bool:
        patience = self._config.patience
        return 0 < patience <= self.progress.evaluations_since_best

    # -- reports ---------------------------------------------------------------------------

    def _started(self) -> RunStarted:
        config = self._config
        generation = self.run_file.generation
        return RunStarted(
            name=self.path.name,
            model=self.run_file.model.describe(),
            parameters=self.run_file.model.parameters,
            train_characters=self.run_file.characters - self._held_out.characters,
            val_characters=self._held_out.characters,
            vocab_size=len(self._held_out.vocab),
            batch=config.batch,
            bptt=config.bptt,
            precision=self.learner.precision.name,
            device=str(self.learner.precision.device),
            threads=torch.get_num_threads(),
            step=self.progress.step,
            total_steps=self._plan.budget.total_steps,
            generation=1 if generation is None else generation.number,
            generations=1 if generation is None else generation.count,
        )

    def _report(self, gradient_norm: Tensor, elapsed: float) -> StepDone:
        progress, config = self.progress, self._config
        steps, self._pending_steps = self._pending_steps, 0
        loss = self._nats.item() / steps
        self._nats.zero_()
        return StepDone(
            step=progress.step,
            total_steps=self._plan.budget.total_steps,
            epoch=self.learner.streams.epoch(progress.position),
            loss=loss,
            learning_rate=config.learning_rate * self._rate_multiplier,
            gradient_norm=gradient_norm.item(),
            chars_per_second=steps * self.learner.streams.characters_per_step / max(elapsed, 1e-9),
            seconds=progress.seconds,
        )

    def _finish(self, reason: str, begun: float) -> Iterator[Event]:
        progress, unsaved = self.progress, None
        if reason in ("budget", "patience"):
            self._record(self._plan.concluded(progress.step))
        if self._saved != self._mark():
            is_best = not self._held_out or progress.best_step == progress.step
            event = self._save(self._capture(), best=is_best)
            unsaved = event.reason if isinstance(event, SaveFailed) else None
            yield event
        val_loss = None
        best = self._processes.first(lambda: read_pointers(self.folder).best)
        if reason != "stopped" and self._held_out and best is not None:
            val_loss = self._held_out.final_loss(self.folder / best, self.learner.precision.device)
        self.progress.seconds = self._clock() - begun
        yield RunFinished(
            reason=reason,
            step=self.progress.step,
            epoch=self.learner.streams.epoch(self.progress.position),
            seconds=self.progress.seconds,
            val_loss=val_loss,
            best_step=self.progress.best_step,
            path=self.path,
            unsaved=unsaved,
        )

    # -- state -----------------------------------------------------------------------------

    def model_file(self) -> ModelFile:
        """The averaged model at the current step, as a checkpoint stores it."""
        progress = self.progress
        return ModelFile(
            config=self.run_file.model,
            vocab=self._held_out.vocab,
            weights=to_arrays(self.learner.average),
            excerpt=self._held_out.excerpt,
            training={
                "run": self.path.name,
                "step": progress.step,
                "epoch": self.learner.streams.epoch(progress.position),
                "seconds": progress.seconds,
                "best_loss": progress.best_loss,
                "best_step": progress.best_step,
            },
        )

    def _capture(self, *, evaluated: bool = False) -> Snapshot:
        """A copy of the run's full state."""
        arrays = {n: t.detach().cpu().numpy().copy() for n, t in self.learner.tensors().items()}
        values: dict[str, Any] = {
            "progress": dict(vars(self.progress)),
            "threads": torch.get_num_threads(),
            "evaluated": evaluated,
        }
        return Snapshot(self.model_file(), ResumeState(arrays, values))

    def _roll_back(self, reason: str) -> RolledBack | None:
        """Go back to the last validation with a lower rate; None if done too often."""
        failed = self.progress
        assert self._rollback is not None
        self.progress = self._rollback.restore(self.learner)
        self.progress.seconds = failed.seconds
        self._nats.zero_()
        self._pending_steps = 0
        self._forget_worst()
        if failed.rollbacks == MAX_ROLLBACKS:
            return None
        self.progress.rollbacks = failed.rollbacks + 1
        self.progress.rate_scale = failed.rate_scale * ROLLBACK_RATE
        return RolledBack(
            step=failed.step,
            to_step=self.progress.step,
            rate_scale=self.progress.rate_scale,
            reason=reason,
        )

    def _mark(self) -> tuple[int, float]:
        """Step and rate scale: equal to those of the last checkpoint if nothing changed since."""
        return self.progress.step, self.progress.rate_scale

    def _save(self, snapshot: Snapshot, *, best: bool) -> Saved | SaveFailed:
        """Write a checkpoint and record it; a full disk is reported as an event, not raised.

        Until the first validation after step 0, the newest checkpoint counts as the best: any is
        better than the untrained model.
        """
        progress = self.progress
        best = best or (progress.best_step == 0 and not self._begun_trained)
        self._saved_seconds = progress.seconds
        if not self._budget_written:
            self._write_budget()
        event = self._processes.first(lambda: self._write(snapshot, best=best))
        if isinstance(event, Saved):
            self._saved = self._mark()
        return event

    def _write(self, snapshot: Snapshot, *, best: bool) -> Saved | SaveFailed:
        """Write and record a checkpoint, and report it."""
        progress = self.progress
        try:
            check_lock(self.folder)
            saved = write_checkpoint(self.folder, snapshot.model, snapshot.state)
            add_checkpoint(
                self.folder,
                saved,
                best=best,
                keep=self._config.keep,
                rollback=None if snapshot.evaluated else self._rollback_name,
            )
        except OSError as error:
            with suppress(OSError):  # the folder itself may be the problem
                # A checkpoint that could not be recorded would only fill the disk.
                sweep(self.folder)
            name = Path(error.filename2 or error.filename or "").name
            named = name and not name.startswith(".")  # users do not know our temporary names
            reason = f"{name}: {reason_of(error)}" if named else reason_of(error)
            return SaveFailed(progress.step, reason)
        return Saved(progress.step, self.path / saved.name, best)
