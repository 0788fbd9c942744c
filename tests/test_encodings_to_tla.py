"""TLA+ texts, run by a small evaluator of their syntax trees, do what the reference semantics does."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import tree_sitter
import tree_sitter_tlaplus

from avicheck.encodings import to_tla
from avicheck.encodings.expr import evaluate
from avicheck.encodings.transition import TransitionSystem, fire
from avicheck.encodings.writing import completed, invariants, legal_names
from tests.known.small import SYSTEMS, State, sample

pytestmark = pytest.mark.filterwarnings("ignore:int argument support:DeprecationWarning")


class Tla:
    """A module: its definitions, evaluated in a state whose variables go by their names in it."""

    def __init__(self, text: str) -> None:
        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_tlaplus.language()))
        self.root = parser.parse(text.encode()).root_node
        assert not self.root.has_error
        self._definitions: dict[str, tuple[list[str], Any]] = {}
        for node in self._walk("operator_definition"):
            parameters = [text_of(child) for child in parameters_of(node)]
            name = text_of(node.child_by_field_name("name"))
            self._definitions.setdefault(name, (parameters, node.child_by_field_name("definition")))

    def _walk(self, kind: str) -> Iterator[Any]:
        module = next(node for node in self.root.children if node.type == "module")
        return (node for node in module.children if node.type == kind)

    def states(self) -> list[dict[str, int]]:
        """What ``Init`` allows."""
        found: list[dict[str, int]] = []
        for item in named(self._definitions["Init"][1]):
            found.append({})
            self._act(named(item)[-1], {}, found[-1])
        return found

    def successors(self, state: Mapping[str, int]) -> list[dict[str, int]]:
        """The states that ``Next`` leads to."""
        reached = []
        for item in named(self._definitions["Next"][1]):
            _, action = self._definitions[text_of(named(item)[-1])]
            after: dict[str, int] = {}
            if self._act(action, dict(state), after):
                reached.append(after)
        return reached

    def holds(self, name: str, state: Mapping[str, int]) -> bool:
        return bool(self._value(self._definitions[name][1], dict(state)))

    def _act(self, node: Any, scope: dict[str, Any], after: dict[str, int]) -> bool:
        """Whether an action is enabled; its new values go to ``after``."""
        if node.type == "let_in":
            scope = self._let(node, scope)
            return self._act(node.child_by_field_name("expression"), scope, after)
        if node.type == "conj_list":
            return all(self._act(named(item)[-1], scope, after) for item in named(node))
        if node.type == "bound_prefix_op" and text_of(node).startswith("UNCHANGED"):
            after.update(
                {text_of(part): scope[text_of(part)] for part in named(node)[-1].named_children[1:-1]}
            )
            return True
        target = node.child_by_field_name("lhs")
        assigns = node.type == "bound_infix_op" and node.child_by_field_name("symbol").type == "eq"
        primed = target is not None and target.type == "bound_postfix_op"
        if assigns and (primed or not scope):
            value = self._value(node.child_by_field_name("rhs"), scope)
            after[text_of(target).removesuffix("'")] = int(value)
            return True
        return bool(self._value(node, scope))

    def _let(self, node: Any, scope: dict[str, Any]) -> dict[str, Any]:
        scope = dict(scope)
        for definition in node.children_by_field_name("definitions"):
            name = text_of(definition.child_by_field_name("name"))
            scope[name] = self._value(definition.child_by_field_name("definition"), scope)
        return scope

    def _value(self, node: Any, scope: dict[str, Any]) -> Any:
        field = node.child_by_field_name
        match node.type:
            case "nat_number":
                return int(text_of(node))
            case "boolean":
                return text_of(node) == "TRUE"
            case "identifier_ref":
                return scope[text_of(node)]
            case "parentheses":
                return self._value(named(node)[0], scope)
            case "let_in":
                return self._value(field("expression"), self._let(node, scope))
            case "if_then_else":
                return self._value(field("then" if self._value(field("if"), scope) else "else"), scope)
            case "bound_op":
                parameters, body = self._definitions[text_of(field("name"))]
                values = [self._value(arg, scope) for arg in parameters_of(node)]
                return self._value(body, dict(zip(parameters, values, strict=True)))
            case "bound_prefix_op":
                value = self._value(field("rhs"), scope)
                return not value if field("symbol").type == "lnot" else -value
        assert node.type == "bound_infix_op", node.type
        left = self._value(field("lhs"), scope)
        kind = field("symbol").type
        if kind in ("land", "lor"):
            return left if left == (kind == "lor") else self._value(field("rhs"), scope)
        right = self._value(field("rhs"), scope)
        return TLA_OPERATORS[kind](left, right)


TLA_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "leq": operator.le,
    "lt": operator.lt,
    "gt": operator.gt,
    "plus": operator.add,
    "minus": operator.sub,
    "mul": operator.mul,
    "div": operator.floordiv,
    "mod": operator.mod,
    "pow": operator.pow,
}


def text_of(node: Any) -> str:
    text: bytes = node.text
    return text.decode()


def parameters_of(node: Any) -> list[Any]:
    return [child for child in node.children_by_field_name("parameter") if child.is_named]


def named(node: Any) -> list[Any]:
    return [child for child in node.named_children if child.type != "comment"]


def tla_state(system: TransitionSystem, state: State) -> dict[str, int]:
    names = legal_names((var.name for var in system.variables), "v_")
    return {names[name]: value for name, value in state.items()}


@pytest.mark.parametrize("name", SYSTEMS)
def test_tla_starts_where_the_system_does(name: str) -> None:
    system = SYSTEMS[name]()
    assert Tla(to_tla.text(system)).states() == [tla_state(system, state) for state in system.initial]


@pytest.mark.parametrize("name", SYSTEMS)
def test_tla_steps_where_the_system_does(name: str) -> None:
    system = SYSTEMS[name]()
    module = Tla(to_tla.text(system))
    for state in sample(name):
        reached = [fire(step, state) for step in completed(system).transitions]
        expected = [tla_state(system, values) for values in reached if values is not None]
        assert module.successors(tla_state(system, state)) == expected


@pytest.mark.parametrize("name", SYSTEMS)
def test_tla_invariants_are_the_system_s(name: str) -> None:
    system = SYSTEMS[name]()
    module = Tla(to_tla.text(system))
    checked = [line.split()[1] for line in to_tla.config(system).splitlines() if line.startswith("INVARIANT")]
    for state in sample(name):
        expected = evaluate([holds for _, holds in invariants(system)], state)
        assert [module.holds(operator, tla_state(system, state)) for operator in checked] == expected


@pytest.mark.parametrize(("name", "any_last"), [("lights", False), ("countdown", True)])
def test_tla_says_where_every_state_may_be_the_last(name: str, any_last: bool) -> None:
    note = "\\* Run TLC with -deadlock: any state may be the last."
    assert (note in to_tla.config(SYSTEMS[name]()).splitlines()) == any_last
