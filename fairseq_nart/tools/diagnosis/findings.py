"""What a check has found."""

from dataclasses import dataclass

OK, NOTE, FAULT = "ok", "note", "FAULT"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    state: str
    """`OK`, `NOTE` (something that may be missing or slow) or `FAULT`."""
    name: str
    text: str
    advice: str = ""
    """What to do; for notes and faults."""

    def line(self) -> str:
        """The line, without the advice."""
        return f"{self.state:5}  {self.name}: {self.text}"
