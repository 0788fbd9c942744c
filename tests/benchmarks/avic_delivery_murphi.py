"""AVIC delivery for Rumur, written by hand with scalarsets, so that it may use the symmetry too."""

from __future__ import annotations

from string import Template
from typing import Final

_TEXT: Final = Template("""\
const N: $vcpus; M: $senders; V: $vectors;
type vcpu: scalarset(N); sender: scalarset(M); vector: 0..V - 1; vectors: array[vector] of boolean;
var
  pc: array[vcpu] of 0..7;
  mode, apicv, isrun, dbell, reqev, requpd, wake: array[vcpu] of boolean;
  irr, isr: array[vcpu] of vectors;
  spc: array[sender] of 0..7;
  tgt: array[sender] of vcpu;
  vec: array[sender] of vector;
  sawg: array[sender] of boolean;
  ipc: 0..3;
  inhibit: boolean;

function any(s: vectors): boolean; begin return exists v: vector do s[v] end; end;

-- the highest request goes into service, if it is above what is there
procedure deliver(i: vcpu); begin
  for v := V - 1 to 0 by -1 do
    if isr[i][v] then return; end;
    if irr[i][v] then irr[i][v] := false; isr[i][v] := true; return; end;
  end;
end;

procedure end_of_interrupt(i: vcpu); begin
  for v := V - 1 to 0 by -1 do
    if isr[i][v] then isr[i][v] := false; return; end;
  end;
end;

startstate begin
  for i: vcpu do
    pc[i] := 0; mode[i] := false; apicv[i] := true; isrun[i] := false; dbell[i] := false;
    reqev[i] := false; requpd[i] := false; wake[i] := false;
    for v: vector do irr[i][v] := false; isr[i][v] := false; end;
  end;
  for j: sender do spc[j] := 0; undefine tgt[j]; vec[j] := 0; sawg[j] := false; end;
  ipc := 0; inhibit := false;
end;

ruleset i: vcpu do
  rule pc[i] = 0 ==> begin pc[i] := 1; isrun[i] := apicv[i]; end;
  rule pc[i] = 1 & requpd[i] & !(ipc = 1 | ipc = 2) ==> begin
    requpd[i] := false; apicv[i] := !inhibit; isrun[i] := !inhibit; reqev[i] := reqev[i] | inhibit; end;
  rule pc[i] = 1 & reqev[i] & !requpd[i] ==> begin
    reqev[i] := false; if !apicv[i] then deliver(i); end; end;
  rule pc[i] = 1 & !reqev[i] & !requpd[i] ==> begin pc[i] := 2; mode[i] := true; end;
  rule pc[i] = 2 & (reqev[i] | requpd[i]) ==> begin pc[i] := 1; mode[i] := false; end;
  rule pc[i] = 2 & !reqev[i] & !requpd[i] ==> begin pc[i] := 3; dbell[i] := apicv[i]; end;
  rule pc[i] = 3 & apicv[i] & dbell[i] ==> begin dbell[i] := false; deliver(i); end;
  rule pc[i] = 3 & any(isr[i]) & apicv[i] ==> begin end_of_interrupt(i); dbell[i] := true; end;
  rule pc[i] = 3 & any(isr[i]) & !apicv[i] ==> begin
    end_of_interrupt(i); reqev[i] := true; pc[i] := 4; dbell[i] := false; end;
  rule pc[i] = 3 ==> begin pc[i] := 4; dbell[i] := false; end;
  rule pc[i] = 3 & !any(isr[i]) ==> begin pc[i] := 5; mode[i] := false; dbell[i] := false; end;
  rule pc[i] = 4 ==> begin pc[i] := 0; mode[i] := false; end;
  rule pc[i] = 5 ==> begin pc[i] := 6; isrun[i] := false; end;
  rule pc[i] = 6 & (any(irr[i]) | wake[i]) ==> begin pc[i] := 0; wake[i] := false; end;
  rule pc[i] = 6 & !any(irr[i]) & !wake[i] ==> begin pc[i] := 7; end;
  rule pc[i] = 7 & wake[i] ==> begin pc[i] := 0; wake[i] := false; end;
end;

procedure idle(j: sender); begin spc[j] := 0; undefine tgt[j]; end;

ruleset j: sender do
  ruleset i: vcpu; v: vector do
    rule spc[j] = 0 ==> begin spc[j] := 1; tgt[j] := i; vec[j] := v; end;
  end;
  rule spc[j] = 1 ==> begin irr[tgt[j]][vec[j]] := true; vec[j] := 0; spc[j] := 2; end;
  rule spc[j] = 2 ==> begin sawg[j] := mode[tgt[j]]; spc[j] := 3; end;
  rule spc[j] = 2 & apicv[tgt[j]] ==> begin spc[j] := isrun[tgt[j]] ? 4 : 5; end;
  rule spc[j] = 3 ==> begin
    spc[j] := !apicv[tgt[j]] ? 6 : (sawg[j] ? 4 : 5); sawg[j] := false; end;
  rule spc[j] = 4 ==> begin
    dbell[tgt[j]] := dbell[tgt[j]] | (pc[tgt[j]] = 3 & apicv[tgt[j]]); idle(j); end;
  rule spc[j] = 5 ==> begin wake[tgt[j]] := wake[tgt[j]] | pc[tgt[j]] >= 5; idle(j); end;
  rule spc[j] = 6 ==> begin reqev[tgt[j]] := true; spc[j] := 7; end;
  rule spc[j] = 7 ==> begin wake[tgt[j]] := wake[tgt[j]] | pc[tgt[j]] >= 5; idle(j); end;
end;

rule ipc = 0 ==> begin ipc := 1; for i: vcpu do requpd[i] := true; end; end;
rule ipc = 1 & forall i: vcpu do !mode[i] end ==> begin ipc := 2; end;
rule ipc = 2 ==> begin ipc := 3; inhibit := !inhibit; end;
rule ipc = 3 ==> begin ipc := 0; end;

invariant forall i: vcpu do
  !(pc[i] = 7 & any(irr[i]) & !wake[i] & forall j: sender do !(spc[j] >= 2 & tgt[j] = i) end) end;
""")


def with_scalarsets(vcpus: int, senders: int, vectors: int) -> str:
    """The model for Rumur."""
    return _TEXT.substitute(vcpus=vcpus, senders=senders, vectors=vectors)
