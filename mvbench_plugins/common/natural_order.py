"""Names of frames in the order in which people count them."""

import re


def natural_key(name: str) -> list[str | int]:
    """Key that sorts ``frame_10`` behind ``frame_9``: runs of digits count as numbers."""
    # Text and digits take turns, beginning with text (perhaps none), so that equal places hold equal types.
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r'(\d+)', name))]
