"""The instructions of the Dockerfile."""

import shlex
from dataclasses import dataclass

from tests.support.project import ROOT


@dataclass(frozen=True)
class Instruction:
    """One instruction of the Dockerfile, its lines joined."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments of a COPY, a USER or an ENV, without options."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]


def read_stages() -> list[list[Instruction]]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: list[list[Instruction]] = []
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        if line:
            instruction = Instruction(*line.split(maxsplit=1))
            if instruction.name == "FROM":
                stages.append([])
            stages[-1].append(instruction)
    return stages


BUILDER, FINAL = read_stages()


def all_of(stage: list[Instruction], name: str) -> list[Instruction]:
    return [instruction for instruction in stage if instruction.name == name]


def only(stage: list[Instruction], name: str) -> Instruction:
    (instruction,) = all_of(stage, name)
    return instruction


def variables(stage: list[Instruction]) -> dict[str, str]:
    return dict(word.split("=", 1) for env in all_of(stage, "ENV") for word in env.words)
