"""Where values come from: constants, parameters, outputs of other steps, items."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from google.protobuf.struct_pb2 import ListValue, Value

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.limits import Limits, or_raise
from penstock_coordinator.core.plan.naming import quoted, suggestion
from penstock_coordinator.core.plan.paths import position_of
from penstock_coordinator.core.plan.validation.known import Known
from penstock_coordinator.core.plan.validation.report import Report, member
from penstock_coordinator.core.plan.validation.texts import check_name

_INPUT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ITERABLE = (pb.PARAMETER_TYPE_LIST, pb.PARAMETER_TYPE_ANY)


class Sources:
    """Checks the sources of all steps of one pipeline; counts its constants on the way."""

    def __init__(self, report: Report, known: Known, limits: Limits) -> None:
        self._report = report
        self._known = known
        self._limits = limits
        self._constant_bytes = 0

    # --- inputs

    def check_inputs(self, number: int, step: pb.StepSpec) -> None:
        field = f"steps[{number}].inputs"
        if len(step.inputs) > self._limits.inputs:
            text = f"there are {len(step.inputs):,} inputs, past the limit of {self._limits.inputs:,}"
            self._report.add(field, f"{text}: pass lists or objects{or_raise('inputs')}")
            return
        names = sorted(step.inputs)
        for name in names:
            place = f"{field}[{member(name)}]"
            if not _INPUT.fullmatch(name):
                form = "use 1 to 128 letters, digits and '_', not beginning with a digit"
                self._report.add(place, f"{quoted(name)} is no valid name of an input: {form}")
            self._check_input(place, number, step, step.inputs[name])
        if step.WhichOneof("action") == "command":
            self._check_variables(field, names)

    def _check_variables(self, field: str, names: list[str]) -> None:
        first: dict[str, str] = {}
        for name in names:
            other = first.setdefault(name.upper(), name)
            if other != name:
                text = f"{quoted(other)} and {quoted(name)} both become PENSTOCK_INPUT_{member(name.upper())}"
                self._report.add(f"{field}[{member(name)}]", f"{text}: rename one")

    def _check_input(self, field: str, number: int, step: pb.StepSpec, source: pb.Input) -> None:
        match source.WhichOneof("source"):
            case "value":
                self.check_constant(f"{field}.value", source.value)
            case "parameter":
                self._check_parameter(f"{field}.parameter", source.parameter)
            case "step":
                self._check_output(f"{field}.step", number, source.step)
            case "item":
                undone = self._known.undoes.get(number)
                mapped = step if undone is None else self._known.spec.steps[undone]
                if not mapped.HasField("map"):
                    self._report.add(f"{field}.item", _no_item(None if undone is None else mapped.name))
                self._check_path(f"{field}.item.path", source.item.path)
                self._check_member(f"{field}.item.path[0]", mapped.map, source.item.path)
            case _:
                self._report.add(field, "it says not where the value comes from: give value, parameter, step or item")

    def _check_parameter(self, field: str, name: str) -> bool:
        if name in self._known.parameters:
            return True
        remedy = suggestion(name, self._known.parameters) if self._known.parameters else "declare it in `parameters`"
        self._report.add(field, f"the pipeline has no parameter {quoted(name)}: {remedy}")
        return False

    # --- outputs of other steps

    def _check_output(self, field: str, number: int, reference: pb.OutputReference) -> int | None:
        """The number of the step that the reference names, if it is right."""
        upstream = self._known.numbers.get(reference.step)
        if upstream is None:
            self._report.add(f"{field}.step", unknown_step(reference.step, self._known))
            return None
        if upstream == number:
            text = "the step would wait for its own output: name another step, or remove this"
            self._report.add(f"{field}.step", text)
            return None
        self._check_path(f"{field}.path", reference.path)
        # Of a mapped step that is undone it is the output of one item.
        item = self._known.undoes.get(number) == upstream
        fault = path_fault(self._known, upstream, reference.path, item=item)
        if fault is not None:
            self._report.add(f"{field}.path[{fault[0]}]", fault[1])
        return upstream

    def _check_path(self, field: str, path: Sequence[str]) -> None:
        if len(path) > self._limits.path:
            text = f"it has {len(path):,} members, past the limit of {self._limits.path}"
            self._report.add(field, f"{text}: take the whole output, and go down in the step")
            return
        for at, each in enumerate(path):
            if len(each) > self._limits.path_member_bytes:
                limit = self._limits.path_member_bytes
                self._report.add(f"{field}[{at}]", f"it has {len(each):,} characters, past the limit of {limit}")

    def check_run_outputs(self, spec: pb.PipelineSpec) -> None:
        """What the output of a run is made of."""
        if spec.HasField("output"):
            self._check_output("output", -1, spec.output)
            if spec.outputs:
                self._report.add("outputs", "there is an `output` too: give one of them")
        if len(spec.outputs) > self._limits.outputs:
            text = f"there are {len(spec.outputs):,} outputs, past the limit of {self._limits.outputs}"
            self._report.add("outputs", f"{text}: put a step before that joins them")
            return
        for name in sorted(spec.outputs):
            field = f"outputs[{member(name)}]"
            check_name(self._report, field, name, self._limits)
            self._check_output(field, -1, spec.outputs[name])

    # --- maps

    def check_map(self, number: int, step: pb.StepSpec) -> None:
        field, over = f"steps[{number}].map", step.map
        if over.max_parallel < 0:
            text = f"{over.max_parallel} is negative: use a number from 1 up, or 0 for no limit"
            self._report.add(f"{field}.max_parallel", text)
        if over.combination not in pb.MapCombination.values():
            text = f"{over.combination} is no combination: use one of the MapCombination enum"
            self._report.add(f"{field}.combination", text)
        if over.lists:
            self._check_lists(field, number, over)
            return
        if over.combination == pb.MAP_COMBINATION_ZIP:
            self._report.add(f"{field}.combination", "there is one list: give several in `lists`, or leave this out")
        self._check_over(field, number, over)
        self._check_going_along(field, number, step)

    def _check_over(self, field: str, number: int, over: pb.MapSpec | pb.MapList) -> None:
        match over.WhichOneof("over"):
            case "parameter":
                if self._check_parameter(f"{field}.parameter", over.parameter):
                    self._check_list(f"{field}.parameter", over.parameter)
            case "step":
                self._check_output(f"{field}.step", number, over.step)
            case "values":
                self._check_values(f"{field}.values", over.values)
            case _:
                self._report.add(field, "it says not what is mapped over: give parameter, step or values")

    def _check_lists(self, field: str, number: int, over: pb.MapSpec) -> None:
        for name in ("parameter", "step", "values", "joined", "nested"):
            if name in {known.name for known, _ in over.ListFields()}:
                self._report.add(f"{field}.{name}", "`lists` are given too: leave one of the two out")
        if len(over.lists) > self._limits.map_lists:
            text = f"there are {len(over.lists):,} lists, past the limit of {self._limits.map_lists}"
            self._report.add(f"{field}.lists", f"{text}: put some of them together in a step")
            return
        first: dict[str, int] = {}
        for at, each in enumerate(over.lists):
            place = f"{field}.lists[{at}]"
            if not _INPUT.fullmatch(each.name):
                form = "use 1 to 128 letters, digits and '_', not beginning with a digit"
                self._report.add(f"{place}.name", f"{quoted(each.name)} is no valid name of a member: {form}")
            elif first.setdefault(each.name, at) != at:
                text = f"{quoted(each.name)} is the name of lists[{first[each.name]}] too: choose another"
                self._report.add(f"{place}.name", text)
            self._check_over(place, number, each)

    def _check_going_along(self, field: str, number: int, step: pb.StepSpec) -> None:
        """What is for maps over mapped steps alone."""
        over = step.map
        upstream = self._known.numbers.get(over.step.step) if over.WhichOneof("over") == "step" else None
        mapped = upstream is not None and upstream != number and self._known.mapped[upstream]
        for name, given in (("joined", over.joined), ("nested", over.HasField("nested"))):
            if given and not mapped:
                text = f"what is mapped over is no mapped step: leave `{name}` out, or map over a step that is mapped"
                self._report.add(f"{field}.{name}", text)
            elif given and over.step.path:
                self._report.add(f"{field}.step.path", f"`{name}` is of the whole output: leave the path out")
        if not mapped:
            return
        if over.joined and over.HasField("nested"):
            self._report.add(f"{field}.joined", "`nested` is given too: leave one of the two out")
        if over.HasField("nested") and upstream is not None:
            self._check_path(f"{field}.nested.path", over.nested.path)
            outputs = self._known.outputs(upstream)
            path = over.nested.path
            if outputs is not None and path and path[0] not in outputs:
                self._report.add(f"{field}.nested.path[0]", _no_output(over.step.step, path[0], outputs))
        if not over.joined and not over.step.path:
            self._check_going_along_rule(number, step)

    def _check_going_along_rule(self, number: int, step: pb.StepSpec) -> None:
        if step.trigger_rule == pb.TRIGGER_RULE_ALWAYS:
            text = "each item waits for the one that it goes along with: use all_done, or map over another list"
            self._report.add(f"steps[{number}].trigger_rule", text)
        if self._known.depths[number] > self._limits.map_levels:
            levels = f"{self._known.depths[number]} levels deep here, past the limit of {self._limits.map_levels}"
            text = f"maps are nested {levels}: put lists together in a step between"
            self._report.add(f"steps[{number}].map.nested", text)

    def _check_member(self, field: str, over: pb.MapSpec, path: Sequence[str]) -> None:
        """The item of several lists has their names as its members."""
        if not over.lists or not path or len(over.lists) > self._limits.map_lists:
            return
        names = [each.name for each in over.lists]
        if path[0] not in names:
            self._report.add(field, f"the item has no member {quoted(path[0])}: {suggestion(path[0], names)}")

    def _check_list(self, field: str, name: str) -> None:
        if self._known.parameters[name] not in _ITERABLE:
            self._report.add(field, f"the parameter {quoted(name)} is no list: map over one of type LIST or ANY")

    def _check_values(self, field: str, values: ListValue) -> None:
        count = len(values.values)
        if count > self._limits.map_items:
            text = f"there are {count:,} items, past the limit of {self._limits.map_items:,}"
            self._report.add(field, f"{text}: give fewer and larger ones{or_raise('map_items')}")
            return
        whole = Value()
        whole.list_value.CopyFrom(values)
        self.check_constant(field, whole)

    # --- constants

    def check_constant(self, field: str, value: Value) -> bool:
        """Whether it is a JSON value within the limits."""
        size = value.ByteSize()
        if size > self._limits.value_bytes:
            text = f"it has {size:,} bytes, past the limit of {self._limits.value_bytes:,}"
            self._report.add(field, f"{text}: keep it in a file or a store, and pass its name")
            return False
        before = self._constant_bytes
        self._constant_bytes += size
        if before <= self._limits.constants_bytes < self._constant_bytes:
            text = f"the constants have more than {self._limits.constants_bytes:,} bytes in all"
            self._report.add(field, f"{text}: keep large ones in a file or a store{or_raise('constants_bytes')}")
        fault = value_fault(value, self._limits.nesting)
        if fault is not None:
            self._report.add(field, fault)
        return fault is None


def _no_item(undone: str | None) -> str:
    if undone is None:
        return "the step is not mapped, so there is no item: give it a `map`, or use another source"
    return f"the step {quoted(undone)}, which this one undoes, is not mapped, so there is no item: use another source"


def path_fault(known: Known, upstream: int, path: Sequence[str], *, item: bool = False) -> tuple[int, str] | None:
    """The first member of a path into a step's output that cannot be there, and why: of a mapped step there is a list,
    of a command the outputs that it declares. `item`: the path is one into the output of an item."""
    if not path:
        return None
    name = quoted(known.spec.steps[upstream].name)
    depth = 0 if item else known.depths[upstream]
    for level, member_of in enumerate(path[:depth]):
        if position_of(member_of) is None:
            return level, f"the output of the mapped step {name} is a list: its items are numbered, from 0"
    outputs = known.outputs(upstream)
    if outputs is None or len(path) <= depth or path[depth] in outputs:
        return None
    return depth, _no_output(known.spec.steps[upstream].name, path[depth], outputs)


def _no_output(command: str, name: str, outputs: list[str]) -> str:
    remedy = suggestion(name, outputs) if outputs else "declare it in the command's outputs"
    return f"the command {quoted(command)} has no output {quoted(name)}: {remedy}"


def value_fault(value: Value, nesting: int) -> str | None:
    """Why it is no JSON value, if it is none."""
    stack = [(value, 0)]
    while stack:
        each, depth = stack.pop()
        kind = each.WhichOneof("kind")
        if kind is None:
            return "a value is missing: for nothing write null"
        if kind == "number_value":
            if not math.isfinite(each.number_value):
                return f"{each.number_value} is no JSON number: use a finite number, null or a text"
        elif kind in ("list_value", "struct_value"):
            if depth == nesting:
                return f"it is nested deeper than the limit of {nesting}: make it flatter"
            inner = each.list_value.values if kind == "list_value" else each.struct_value.fields.values()
            stack.extend((part, depth + 1) for part in inner)
    return None


def unknown_step(name: str, known: Known) -> str:
    return f"there is no step {quoted(name)}: {suggestion(name, known.numbers)}"
