"""Where the subject stands in a prompt that spells it out. Standard library only."""

import re


def with_slot(prompt: str, subject: str) -> str | None:
    """The prompt with `{}` in the subject's place; None where that place cannot be told.

    A whole word goes before a part of one ("Ye" in "Yemen", then "Ye"), and the first place before
    later ones. A prompt that has braces already is left to whoever wrote them.
    """
    name = subject.strip()
    if not name or "{}" in prompt:
        return None
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", prompt) or re.search(
        re.escape(name), prompt
    )
    if found is None:
        return None
    return prompt[: found.start()] + "{}" + prompt[found.end() :]
