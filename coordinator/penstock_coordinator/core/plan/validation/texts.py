"""Names, labels, descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from penstock_coordinator.core.plan.limits import Limits, or_raise
from penstock_coordinator.core.plan.naming import NAME, name_form, quoted
from penstock_coordinator.core.plan.validation.report import Report, member

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_./-]{0,126}[A-Za-z0-9_])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_name(report: Report, field: str, name: str, limits: Limits) -> None:
    if len(name) > limits.name_length or not NAME.fullmatch(name):
        report.add(field, f"{_name_fault(name, limits.name_length)}: {name_form(limits.name_length)}")


def _name_fault(name: str, length: int) -> str:
    if not name:
        return "the name is empty"
    if len(name) > length:
        return f"the name has {len(name):,} characters, past the limit of {length}"
    shown = quoted(name)
    if "\x00" in name:
        return f"the name {shown} has a NUL character"
    if _CONTROL.search(name):
        return f"the name {shown} has a control character or a line break"
    if not name.isascii():
        strange = next(each for each in name if not each.isascii())
        return f"the name {shown} has the character {strange!a} (U+{ord(strange):04X}), which is not ASCII"
    return f"{shown} is no valid name"


def check_description(report: Report, field: str, text: str, limits: Limits) -> None:
    check_bytes(report, field, text, limits.description_bytes, "the description")


def check_bytes(report: Report, field: str, text: str, limit: int, what: str, other_remedy: str = "") -> bool:
    """Whether the text is within the limit."""
    if len(text) * 4 <= limit:
        return True
    size = len(text.encode())
    if size > limit:
        report.add(field, f"{what} has {size:,} bytes, past the limit of {limit:,}: shorten it{other_remedy}")
    return size <= limit


def check_labels(report: Report, field: str, labels: Mapping[str, str], limits: Limits) -> None:
    if not labels:
        return
    if len(labels) > limits.labels:
        text = f"there are {len(labels):,} labels, past the limit of {limits.labels}: remove some"
        report.add(field, text + or_raise("labels"))
        return
    for key in sorted(labels):
        value = labels[key]
        at = f"{field}[{member(key)}]"
        if not _LABEL.fullmatch(key):
            form = "use 1 to 128 letters, digits, '_', '.', '/' and '-', with a letter, digit or '_' at both ends"
            report.add(at, f"{quoted(key)} is no valid label: {form}")
        if _CONTROL.search(value):
            report.add(at, "the label's value has a NUL or another control character: remove it")
        check_bytes(report, at, value, limits.label_bytes, "the label's value")


def has_control(text: str) -> bool:
    return _CONTROL.search(text) is not None
