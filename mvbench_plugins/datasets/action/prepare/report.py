"""What a preparation script says at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

_SHOWN = 10


@dataclass
class Report:
    """Counts of a data set, and what it lacks.

    Attributes:
        missing_file: where the list of what is missing is written.
        rows: one for each part of the data set, by column title.
        missing: one line for each thing that is missing or wrong.
        notes: other lines worth knowing.
    """

    missing_file: Path
    rows: list[dict[str, object]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def finish(self) -> str:
        """Write the list of what is missing, or remove an outdated one.

        Returns:
            Text for the user: the counts, and the first of what is missing.
        """
        lines = [tabulate(self.rows, headers='keys', intfmt=','), *self.notes]
        if not self.missing:
            self.missing_file.unlink(missing_ok=True)
            return '\n'.join([*lines, 'complete: nothing is missing'])
        self.missing_file.write_text('\n'.join(self.missing) + '\n', encoding='utf-8')
        lines.append(f'missing or wrong: {len(self.missing)}, all listed in {self.missing_file}; the first:')
        lines.extend(f'  {line}' for line in self.missing[:_SHOWN])
        return '\n'.join(lines)


def part_of(found: int, total: int) -> str:
    """Both numbers, as a cell of the table."""
    return f'{found:,} of {total:,}'
