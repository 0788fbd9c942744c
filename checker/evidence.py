"""What was proved, as a page that a design review can cite: ``avicheck prove --report``.

The page is the same for the same specification, sizes and solvers: it has no times and no dates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import jinja2

from avicheck.checker.archive import specification_checksum, tool_version
from avicheck.checker.cases import case_text
from avicheck.checker.check import caller_text
from avicheck.checker.claims import Claim, smallest
from avicheck.checker.proof import SOLVER, Proof, fixes_of, limits
from avicheck.checker.solve import solver_version
from avicheck.checker.verdict import Verdict

EXAMPLE_SECONDS: Final = 300.0
"""How long to look for one smallest example."""

EXAMPLE_VCPUS: Final = 3
"""Up to how many vCPUs."""

TEMPLATE: Final = """\
# What is proved of {{ model }}{% for proof in proofs %}

## Kernel {{ proof.kernel }}: {{ proof.verdict }}

Fixes: {{ proof.fixes | join('; ') or 'none' }}.

| verdict | claim | vCPUs | queries |{% if recheck %} confirmed by {{ recheck }} |{% endif %} statement |
|---|---|---|---|{% if recheck %}---|{% endif %}---|
{%- for row in proof.rows %}
| {{ row.verdict }} | `{{ row.name }}` | {{ row.vcpus }} | {{ row.queries }} |
{%- if recheck %} {{ row.confirmed }} |{% endif %} {{ row.sentence }} |
{%- endfor %}
{%- if proof.open %}

Open: {{ proof.open | join(', ') }}.
{%- endif %}
{%- if proof.counterexamples %}

### Counterexamples
{%- for item in proof.counterexamples %}

#### {{ item.name }}

{{ item.sentence }}{{ item.caller }}

```text
{{ item.case }}
```
{%- endfor %}
{%- endif %}
{%- if proof.classes %}

### Divergence classes

A class holds if some vCPU diverges that is in no other class, on a request that KVM itself makes.
{%- for item in proof.classes %}

#### {{ item.name }}: {{ item.verdict }}

{{ item.sentence }}

- Where: {{ item.predicate }}
- Why: {{ item.mechanism }}
- Documented as intended: {{ item.documented or 'no.' }}{{ item.caller }}

```text
{{ item.case }}
```
{%- endfor %}
{%- endif %}
{%- endfor %}

## Bounds and assumptions

{{ bounds[0] | upper }}{{ bounds[1:] }}.
{%- if assumptions %}
A disabled vCPU is as good as none, so that a number of vCPUs includes all smaller ones.
{%- endif %}
{% for assumption in assumptions %}
- {{ assumption.name }}: {{ assumption.sentence }} ({{ assumption.source }})
{%- endfor %}

## Made by

{{ tool }} with {{ solvers | join(', ') }}; specification {{ specification }} (SHA-256).
"""


def markdown(model: str, proofs: Sequence[Proof], recheck: str | None) -> str:
    """The page."""
    bounds, assumed = limits(model)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE).render(
        model=model,
        proofs=[_proof(model, proof) for proof in proofs],
        recheck=recheck,
        bounds=bounds,
        assumptions=assumed,
        tool=tool_version(),
        solvers=[solver_version(solver) for solver in (SOLVER, recheck) if solver],
        specification=specification_checksum(),
    )


def _proof(model: str, proof: Proof) -> dict[str, Any]:
    return {
        "kernel": proof.kernel.name,
        "verdict": proof.overall.value,
        "fixes": fixes_of(model, proof.kernel),
        "rows": [_row(proof, group) for group in proof.asked],
        "open": [name for group in proof.asked for name in _open(proof, group)],
        "counterexamples": list(_counterexamples(proof)),
        "classes": list(_classes(proof)),
    }


def _row(proof: Proof, group: str) -> dict[str, Any]:
    return {
        "verdict": proof.verdict(group).value,
        "name": group,
        "vcpus": proof.size(group) or "",
        "queries": len(proof.asked[group]),
        "confirmed": sum(item.confirmed for item in proof.of(group)),
        "sentence": proof.sentence(group),
    }


def _open(proof: Proof, group: str) -> Iterator[str]:
    for query in proof.asked[group]:
        item = proof.evidence.get(query.name)
        if item is None or item.answer.status == "unknown":
            yield f"`{query.name}`"


def _counterexamples(proof: Proof) -> Iterator[dict[str, Any]]:
    for claim in proof.claims:
        if not claim.explanation and claim.kind == "always" and proof.verdict(claim.name) is Verdict.VIOLATED:
            yield {"name": claim.name, "sentence": claim.sentence, **_example(proof, claim)}


def _classes(proof: Proof) -> Iterator[dict[str, Any]]:
    for claim in proof.claims:
        if claim.explanation:
            yield {
                "name": claim.name.removeprefix("class-"),
                "verdict": proof.verdict(claim.name).value,
                "sentence": claim.sentence,
                "predicate": claim.explanation.predicate,
                "mechanism": claim.explanation.mechanism,
                "documented": claim.explanation.documented,
                **_example(proof, claim),
            }


def _example(proof: Proof, claim: Claim) -> dict[str, str]:
    """The smallest case of a claim, and what is to be said of it."""
    found = smallest(claim, proof.kernel, min(EXAMPLE_VCPUS, claim.size(proof.vcpus)), EXAMPLE_SECONDS)
    if found.case is None:
        return {"case": f"none with up to {EXAMPLE_VCPUS} vCPUs", "caller": ""}
    said = caller_text(found)
    return {"case": case_text(found.case), "caller": f"\n\nThe smallest case{said}:" if said else ""}
