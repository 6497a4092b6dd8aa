"""Paddock beside its peers on this machine, in one run: who reads prompts, writes and serves many the fastest.

    python benchmarks/peers.py --work bench-peers --shape 1.1b -r 5
    python benchmarks/peers.py --work bench-peers --shape 1.1b -r 3 --concurrency 16 --formats 4-bit
    python benchmarks/peers.py --work bench-peers --shape 1.1b -r 5 --load --formats 4-bit

Engines take turns, round by round, on random-weights files of one shape; medians over the rounds are compared. What
the timers include is in docs/benchmarks.md. An engine that cannot be installed, or fails, is a row that says so.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import environments
import reporting
import shapes
import subjects
from engines import ENTRIES, GROUPS, Entry, Failed, Process, interpreter

LIMIT = 900.0  # seconds for one answer
LOADING = 3600.0  # the first load converts the model
WARM = 4  # tokens written before anything is timed
FIRST_WORD = 260  # ids below are controls and bytes


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures Paddock beside other engines, taking turns.")
    parser.add_argument("--work", type=Path, default=Path("bench-peers"), help="environments, models, results")
    parser.add_argument("--shape", choices=shapes.SHAPES, default="1.1b")
    parser.add_argument("--model", type=Path, help="a real LLaMA folder instead of a shape")
    parser.add_argument("--peers", help="engines, commas between: " + ", ".join(_engines()))
    parser.add_argument("--formats", help="groups, commas between: " + ", ".join(GROUPS))
    parser.add_argument("-p", "--prompt", type=int, default=512, help="tokens read")
    parser.add_argument("-n", "--new", type=int, default=128, help="tokens written")
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concurrency", default="", help="texts at once, commas between, 128 in and 128 out each")
    parser.add_argument("--crowd-tokens", type=int, default=128, help="tokens in and out of each text at once")
    parser.add_argument("--load", action="store_true", help="time from process start to first token, and memory")
    parser.add_argument("--only-load", action="store_true", help="nothing but --load")
    parser.add_argument("--alone", action="store_true", help="one engine in memory at a time: reload at every turn")
    parser.add_argument("--quick", action="store_true", help="tiny shape, short texts, one round: does it all work?")
    parser.add_argument("--json", type=Path, help="where the record goes [work/results/DATE.json]")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.shape, asked.prompt, asked.new, asked.rounds, asked.crowd_tokens = "tiny", 64, 16, 1, 16
        asked.concurrency = asked.concurrency or "4"
        asked.load = True
    asked.load = asked.load or asked.only_load
    asked.crowds = [int(word) for word in asked.concurrency.split(",") if word]
    asked.entries = _chosen(parser, asked)
    asked.subject = _subject(parser, asked)
    return asked


def _subject(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> subjects.Subject:
    models = asked.work / "models"
    if asked.model is None:
        return subjects.Subject.random(asked.shape, models)
    try:
        return subjects.Subject.real(asked.model, models)
    except (OSError, ValueError, KeyError) as error:
        parser.error(f"{asked.model} is no model folder: {error}")


def _engines() -> list[str]:
    return list(dict.fromkeys(entry.engine for entry in ENTRIES))


def _chosen(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> list[Entry]:
    engines = asked.peers.split(",") if asked.peers else _engines()
    groups = asked.formats.split(",") if asked.formats else list(GROUPS)
    for word, known in [*((e, _engines()) for e in engines), *((g, GROUPS) for g in groups)]:
        if word not in known:
            parser.error(f"{word!r} is none of {', '.join(known)}")
    return [entry for entry in ENTRIES if entry.engine in engines and entry.group in groups]


class Run:
    """One run of the whole table: what each entry gave, round by round, and what failed."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.subject = asked.subject
        self.samples: dict[Entry, dict[str, list[float]]] = {entry: {} for entry in asked.entries}
        self.facts: dict[Entry, dict[str, Any]] = {}
        self.failed: dict[Entry, str] = {}
        self.pythons: dict[str, Path] = {}
        self.files: dict[str, Path] = {}
        self.alive: dict[Entry, Process] = {}
        self.logs = asked.work / "logs"

    def prepare(self) -> None:
        """Environments and files; whoever lacks one has failed."""
        self.logs.mkdir(parents=True, exist_ok=True)
        for entry in self.asked.entries:
            try:
                if entry.environment and entry.environment not in self.pythons:
                    self.pythons[entry.environment] = environments.python_of(entry.environment, self.asked.work)
                if entry.file not in self.files:
                    self.files[entry.file] = self.subject.file(entry.file)
            except (environments.NotInstalled, subjects.NotMade, OSError, ValueError) as error:
                self.fail(entry, str(error))

    def fail(self, entry: Entry, why: str) -> None:
        self.failed[entry] = why
        tell(f"{entry.name}: {why}")
        if entry in self.alive:
            self.alive.pop(entry).close()

    def measure(self) -> None:
        """Group after group; within one, everyone's turn in every round, another first each time."""
        for group in GROUPS:
            entries = [e for e in self.asked.entries if e.group == group and e not in self.failed]
            for number in range(self.asked.rounds):
                turn = number % max(len(entries), 1)
                for entry in entries[turn:] + entries[:turn]:
                    if entry not in self.failed:
                        self.turn(entry, number)
            for entry in list(self.alive):
                self.alive.pop(entry).close()

    def turn(self, entry: Entry, number: int) -> None:
        try:
            if self.asked.load:
                self.time_loading(entry, number)
            if not self.asked.only_load:
                self.time_single(entry, number)
                for crowd in self.asked.crowds:
                    self.time_crowd(entry, crowd, number)
            if self.asked.alone and entry in self.alive:
                self.alive.pop(entry).close()
        except Failed as why:
            self.fail(entry, str(why))
        else:
            latest = ", ".join(f"{name} {values[-1]:.1f}" for name, values in self.samples[entry].items())
            tell(f"round {number + 1}/{self.asked.rounds}, {entry.group}, {entry.name}: {latest}")

    def opened(self, entry: Entry) -> Process:
        """The entry's process, loaded and warm."""
        if entry not in self.alive:
            process = self.alive[entry] = self.started(entry)
            self.loaded(entry, process)
            self.complete(process, self.prompts(1, self.asked.prompt, -1), WARM)
            for crowd in self.asked.crowds:
                self.complete(process, self.prompts(crowd, self.asked.crowd_tokens, -1), 2)
        return self.alive[entry]

    def started(self, entry: Entry) -> Process:
        log = self.logs / f"{entry.engine}-{entry.weights}.log"
        return Process(entry, interpreter(entry, self.pythons), self.asked.threads, log)

    def loaded(self, entry: Entry, process: Process) -> None:
        path = str(self.files[entry.file])
        answer = process.ask(LOADING, do="load", path=path, threads=self.asked.threads, **entry.options)
        self.facts[entry] = {name: answer[name] for name in ("version", "built") if name in answer}

    def time_single(self, entry: Entry, number: int) -> None:
        prompt, new = self.asked.prompt, self.asked.new
        answer = self.complete(self.opened(entry), self.prompts(1, prompt, number), new)
        if answer["first"] is None:
            raise Failed("gives no time of the first token")
        self.add(entry, f"prompt {prompt}", prompt / answer["first"])
        self.add(entry, f"decode {new}", (new - 1) / answer["rest"])

    def time_crowd(self, entry: Entry, crowd: int, number: int) -> None:
        each = self.asked.crowd_tokens
        answer = self.complete(self.opened(entry), self.prompts(crowd, each, number), each)
        self.add(entry, f"{crowd} at once", crowd * each / answer["total"])
        if answer["rest"]:
            self.add(entry, f"{crowd} at once, decode", crowd * (each - 1) / answer["rest"])

    def time_loading(self, entry: Entry, number: int) -> None:
        """A process of its own, from its start to its first token. The first round converts where need be, untimed."""
        if number == 0:
            process = self.started(entry)
            try:
                self.loaded(entry, process)
            finally:
                process.close()
        started = time.perf_counter()
        process = self.started(entry)
        try:
            self.loaded(entry, process)
            answer = self.complete(process, self.prompts(1, 16, number), 1)
            self.add(entry, "seconds to first token", time.perf_counter() - started)
            self.add(entry, "resident MB", answer["memory"]["now"] / 1e6)
            self.add(entry, "peak MB", answer["memory"]["peak"] / 1e6)
        finally:
            process.close()

    def complete(self, process: Process, prompts: list[list[int]], new: int) -> dict[str, Any]:
        """Asks, and checks that the tokens asked for really came."""
        answer = process.ask(LIMIT, do="complete", prompts=prompts, new=new)
        ids = answer["ids"]
        if [len(row) for row in ids] != [new] * len(prompts):
            raise Failed(f"wrote {[len(row) for row in ids]} tokens, asked for {len(prompts)} x {new}")
        if any(not isinstance(id, int) or not 0 <= id < self.subject.vocabulary for row in ids for id in row):
            raise Failed("wrote ids outside the vocabulary")
        return answer

    def prompts(self, count: int, length: int, number: int) -> list[list[int]]:
        """Random words, the same for every engine in a round."""
        source = random.Random(1000 * number + count)
        return [[source.randrange(FIRST_WORD, self.subject.vocabulary) for _ in range(length)] for _ in range(count)]

    def add(self, entry: Entry, test: str, value: float) -> None:
        self.samples[entry].setdefault(test, []).append(value)


def tell(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    asked = parse()
    run = Run(asked)
    run.prepare()
    about = reporting.about(asked)
    try:
        run.measure()
    except KeyboardInterrupt:
        tell("interrupted: what follows is what was measured until then")
    finally:
        for process in run.alive.values():
            process.close()
    rows = reporting.rows(run.samples, run.failed)
    print(reporting.table(about, rows))
    path = asked.json or asked.work / "results" / f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{run.subject.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    engines = {f"{entry.group} {entry.name}": facts for entry, facts in run.facts.items()}
    path.write_text(json.dumps({"about": about, "engines": engines, "rows": rows}, indent=1) + "\n")
    tell(f"the record is {path}")


if __name__ == "__main__":
    main()
