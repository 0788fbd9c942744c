-- lights
-- Deadlock detection: stuck
-- Left out: walked (sometimes)
-- Left out: walks again (leads-to)

type
  integer: -1 .. 64;

var
  v_light_0_colour: 0 .. 2; -- light[0].colour: 0 RED, 1 AMBER, 2 GREEN
  v_walk: boolean; -- walk
  v_waited: -1 .. 3; -- waited

startstate "0"
begin
  v_light_0_colour := 0;
  v_walk := false;
  v_waited := (-1);
end;

startstate "1"
begin
  v_light_0_colour := 1;
  v_walk := false;
  v_waited := 0;
end;

-- next 'colour'; thread road; set the colour * /
rule "next 'colour'" !v_walk ==>
var
  n_v_light_0_colour: 0 .. 2;
  n_v_waited: -1 .. 3;
begin
  n_v_light_0_colour := ((v_light_0_colour + 1) % 3);
  n_v_waited := (-1);
  v_light_0_colour := n_v_light_0_colour;
  v_waited := n_v_waited;
end;

-- go; thread path
rule "go" !v_walk & (v_light_0_colour = 0) ==>
var
  n_v_walk: boolean;
  n_v_waited: -1 .. 3;
begin
  n_v_walk := true;
  n_v_waited := ((2 <= v_waited) ? 2 : (v_waited + 1));
  v_walk := n_v_walk;
  v_waited := n_v_waited;
end;

-- stop; thread path
function guard_2(): boolean;
var
  t1: boolean;
begin
  if !v_walk then return false; end;
  t1 := !(2 <= v_waited);
  if (t1 & (v_waited = 3)) then return false; end;
  return !(t1 & !((v_waited + 1) <= 3));
end;
rule "stop" guard_2() ==>
var
  n_v_walk: boolean;
  n_v_waited: -1 .. 3;
begin
  n_v_walk := false;
  n_v_waited := ((2 <= v_waited) ? 2 : (v_waited + 1));
  v_walk := n_v_walk;
  v_waited := n_v_waited;
end;

invariant "safe" !(v_walk & (v_light_0_colour = 2));

invariant "red on the way" !(v_walk & !(v_light_0_colour = 0));
