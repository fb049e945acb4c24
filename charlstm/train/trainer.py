"""The training loop: steps, validations and checkpoints, as a generator of events."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from charlstm.runs.run import RunFile, add_checkpoint, read_pointers, write_run_file
from charlstm.text.corpus import Corpus
from charlstm.train.device import Precision
from charlstm.train.learner import Learner
from charlstm.train.network import LanguageModel, to_arrays
from charlstm.train.optimiser import rate_multiplier
from charlstm.train.plan import Plan
from charlstm.train.progress import Progress
from charlstm.train.validation import HeldOut

REPORT_SECONDS = 0.2
SAVE_SECONDS = 60.0
EXPLODED_NATS = 10.0
"""So much more than blind guessing costs, and the loss has exploded."""
MAX_ROLLBACKS = 3
ROLLBACK_RATE = 0.5


class Trainer:
    """One run, from wherever it stands to the end of its budget.

    ``run`` yields events and never prints. At a yield everything stands still, so whoever reads
    the events may look at the model without a lock.
    """

    def __init__(
        self,
        path: Path,
        run: RunFile,
        corpus: Corpus,
        model: LanguageModel,
        average: LanguageModel,
        precision: Precision,
        teacher: LanguageModel | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.path = path
        self.run_file = run
        self.progress = Progress()
        self.notices: tuple[str, ...] = ()
        """What the user should know before the run goes on."""
        self.average = average
        """The moving average of the weights: what is validated, saved and sampled."""
        self.guessed_step_seconds: float | None = None
        """For a first estimate of the time, before any step is measured."""
        self._config = run.train
        self._vocab = corpus.vocab
        train_ids, val_ids = corpus.split(run.train.val_fraction)
        self._train_characters, self._val_characters = len(train_ids), len(val_ids)
        self._held_out = HeldOut(train_ids, val_ids, corpus.vocab)
        self.learner = Learner(run.train, train_ids, model, average, precision, teacher)
        self._precision = precision
        self._plan = Plan(
            run.train,
            run.budget,
            run.model.parameters,
            val_characters=len(self._held_out.quick_ids),
            final_characters=len(self._held_out.ids),
        )
        self._clock = clock
        self._stop = False
        self._nats = torch.zeros((), device=precision.device)
        self._pending_steps = 0
        self._share = 0.0
        self._saved_step: int | None = None
        self._saved_seconds = 0.0
        self._budget_written = True

    # -- the loop --------------------------------------------------------------------------

    def run(self) -> Iterator[Event]:
        """Train to the end of the budget, or until ``request_stop``."""
        begun = self._clock() - self.progress.seconds
        yield self._started()
        if self.progress.step == 0:
            yield from self._evaluate_and_save(begun)
        if self.guessed_step_seconds is not None and self._plan.budget.total_steps is not None:
            yield self._estimate(self.guessed_step_seconds)
        good = self._capture()
        speed = self._plan.speed_trial(self._clock())
        reason = "budget"
        last_report = self._clock()
        gradient_norm: Tensor = torch.zeros(())
        while self._plan.steps_left(self.progress.step):
            if self._stop:
                reason = "stopped"
                last_numbers = self._nats.item() + gradient_norm.item()
                if not (math.isfinite(last_numbers) and self.learner.is_finite()):
                    self._roll_back(good, "")
                break
            gradient_norm = self.take_step()
            now = self._clock()
            self.progress.seconds = now - begun
            if (step_seconds := speed.step_done(now)) is not None:
                yield self._fix_budget(step_seconds)
            evaluate = self._plan.evaluation_due(self.progress.step)
            if not (evaluate or now - last_report >= REPORT_SECONDS):
                continue
            report = self._report(gradient_norm, now - last_report)
            last_report = now
            due = evaluate or now - begun - self._saved_seconds >= SAVE_SECONDS
            if trouble := self._trouble(report, thorough=due):
                rolled_back = self._roll_back(good, trouble)
                if rolled_back is None:
                    reason = "diverged"
                    break
                yield rolled_back
                speed = self._plan.speed_trial(self._clock())
                continue
            yield report
            if evaluate:
                yield from self._evaluate_and_save(begun)
                good = self._capture()
                last_report = self._clock()
                if self._out_of_patience():
                    reason = "patience"
                    break
            elif due:
                yield self._save(best=False)
        yield from self._finish(reason, begun)

    def _trouble(self, report: StepDone, *, thorough: bool) -> str:
        """What is wrong with the numbers, or the empty string.

        A gradient that is not finite spoils the weights, and only the next loss shows it; the
        weights themselves are looked at before they are saved.
        """
        if not math.isfinite(report.loss + report.gradient_norm):
            return "the loss is not finite"
        if report.loss > math.log(len(self._vocab)) + EXPLODED_NATS:
            return f"the loss has exploded to {report.loss:.3g}"
        return "the weights are not finite" if thorough and not self.learner.is_finite() else ""

    def request_stop(self) -> None:
        """Finish the step, save, and end; safe to call from a signal handler."""
        self._stop = True

    def take_step(self) -> Tensor:
        """One step of truncated BPTT; returns the norm of the gradient before clipping."""
        progress = self.progress
        share = rate_multiplier(progress.step, self._plan.total_steps(progress.step), self._config)
        self._share = share * progress.rate_scale
        loss, norm = self.learner.step(progress.step, progress.position, self._share)
        progress.step += 1
        progress.position += self._config.bptt
        self._nats += loss  # read only when it is reported: reading waits for a GPU
        self._pending_steps += 1
        return norm

    # -- budget ----------------------------------------------------------------------------

    def _fix_budget(self, step_seconds: float) -> BudgetFixed:
        """Turn minutes into steps, once; estimate how long the whole run takes."""
        if self._plan.budget.total_steps is None:
            self._plan = self._plan.measured(
                self.progress.step, self.progress.seconds, step_seconds
            )
            self.run_file = replace(self.run_file, budget=self._plan.budget)
            self._budget_written = False
            self._write_budget()
        return self._estimate(step_seconds)

    def _write_budget(self) -> None:
        """Keep the budget for a resumed run; on a full disk, try again with the next save."""
        try:
            write_run_file(self.path, self.run_file)
            self._budget_written = True
        except OSError:
            pass

    def _estimate(self, step_seconds: float) -> BudgetFixed:
        total, progress = self._plan.budget.total_steps, self.progress
        assert total is not None
        return BudgetFixed(
            total_steps=total,
            epochs=self.learner.streams.epoch(total * self._config.bptt),
            seconds=self._plan.seconds(progress.step, progress.seconds, step_seconds),
        )

    # -- validation ------------------------------------------------------------------------

    def _evaluate_and_save(self, begun: float) -> Iterator[Event]:
        progress = self.progress
        improved = True
        if self._held_out:
            loss = self._held_out.loss(self.average, self._precision)
            improved = progress.judge(loss)
            gates = self._held_out.gates(self.average)
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
        yield self._save(best=improved)

    def _out_of_patience(self) -> bool:
        patience = self._config.patience
        return 0 < patience <= self.progress.evaluations_since_best

    # -- reports ---------------------------------------------------------------------------

    def _started(self) -> RunStarted:
        config = self._config
        return RunStarted(
            name=self.path.name,
            model=self.run_file.model.describe(),
            parameters=self.run_file.model.parameters,
            train_characters=self._train_characters,
            val_characters=self._val_characters,
            vocab_size=len(self._vocab),
            batch=config.batch,
            bptt=config.bptt,
            precision=self._precision.name,
            device=str(self._precision.device),
            threads=torch.get_num_threads(),
            step=self.progress.step,
            total_steps=self._plan.budget.total_steps,
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
            learning_rate=config.learning_rate * self._share,
            gradient_norm=gradient_norm.item(),
            chars_per_second=steps * config.batch * config.bptt / max(elapsed, 1e-9),
            seconds=progress.seconds,
        )

    def _finish(self, reason: str, begun: float) -> Iterator[Event]:
        progress, unsaved = self.progress, None
        if self._saved_step != self.progress.step:
            event = self._save(best=not self._held_out or progress.best_step == progress.step)
            unsaved = event.reason if isinstance(event, SaveFailed) else None
            yield event
        val_loss = None
        best = read_pointers(self.path).best
        if reason != "stopped" and self._held_out and best is not None:
            val_loss = self._held_out.final_loss(self.path / best, self._precision.device)
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
        """The averaged model as it stands now, as a checkpoint stores it."""
        progress = self.progress
        return ModelFile(
            config=self.run_file.model,
            vocab=self._vocab,
            weights=to_arrays(self.average),
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

    def _capture(self) -> tuple[ModelFile, ResumeState]:
        """Everything the run is, copied: what a checkpoint holds and a rollback needs."""
        arrays = {n: t.detach().cpu().numpy().copy() for n, t in self.learner.tensors().items()}
        values: dict[str, Any] = {
            "progress": dict(vars(self.progress)),
            "threads": torch.get_num_threads(),
        }
        return self.model_file(), ResumeState(arrays, values)

    def restore(self, model: ModelFile, state: ResumeState) -> None:
        """Go on from what ``_capture`` gave.

        Raises:
            CharlstmError: the arrays are not those of this run.
        """
        try:
            tensors = {n: torch.from_numpy(a.copy()) for n, a in state.tensors.items()}
            progress = Progress(**state.values["progress"])
            if progress.position != progress.step * self._config.bptt:
                raise ValueError("steps that were counted otherwise")
            self.learner.load(tensors, dict(model.weights), progress.step)
            self.progress = progress
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CharlstmError(
                f"the checkpoint's training state does not fit the run: {error}",
                "resume from another checkpoint, or begin with --init-from",
            ) from None
        threads = torch.get_num_threads()
        if threads != state.values.get("threads"):
            self.notices = (
                f"trained with {state.values.get('threads')} threads so far, now with {threads}: "
                "rounding may differ from that of an undisturbed run",
            )
        self._saved_step = self.progress.step
        self._saved_seconds = self.progress.seconds
        self._nats.zero_()
        self._pending_steps = 0

    def _roll_back(self, good: tuple[ModelFile, ResumeState], reason: str) -> RolledBack | None:
        """Go back to the last good state with a lower rate; None if that was tried enough."""
        failed_at, rollbacks = self.progress.step, self.progress.rollbacks
        scale, seconds = self.progress.rate_scale * ROLLBACK_RATE, self.progress.seconds
        self.restore(*good)
        self.progress.seconds = seconds
        if rollbacks == MAX_ROLLBACKS:
            return None
        self.progress.rollbacks, self.progress.rate_scale = rollbacks + 1, scale
        self._saved_step = None  # the checkpoint on disk has the old rate
        return RolledBack(
            step=failed_at,
            to_step=self.progress.step,
            rate_scale=scale,
            reason=reason,
        )

    def _save(self, *, best: bool) -> Event:
        """Write a checkpoint and point to it; a full disk is reported, not raised.

        Until a trained net is validated, the newest checkpoint is the best: any is better than the
        untrained one, which is all that the validations have seen.
        """
        best = best or self.progress.best_step == 0
        self._saved_seconds = self.progress.seconds
        step = self.progress.step
        if not self._budget_written:
            self._write_budget()
        try:
            saved = write_checkpoint(self.path, *self._capture())
            add_checkpoint(self.path, saved, best=best, keep=self._config.keep)
        except OSError as error:
            name = Path(error.filename2 or error.filename or "").name
            return SaveFailed(step, f"{name}: {reason_of(error)}" if name else reason_of(error))
        self._saved_step = step
        return Saved(step, saved, best)
