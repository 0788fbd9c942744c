---- MODULE M_lights ----
\* lights
\* Left out: walked (sometimes)
\* Left out: walks again (leads-to)
EXTENDS Integers

VARIABLE v_light_0_colour \* light[0].colour: 0 RED, 1 AMBER, 2 GREEN
VARIABLE v_walk \* walk
VARIABLE v_waited \* waited

vars == <<v_light_0_colour, v_walk, v_waited>>

TypeOK ==
  /\ v_light_0_colour \in 0..2
  /\ v_walk \in BOOLEAN
  /\ v_waited \in (-1)..3

Init ==
  \/ /\ v_light_0_colour = 0
     /\ v_walk = FALSE
     /\ v_waited = (-1)
  \/ /\ v_light_0_colour = 1
     /\ v_walk = FALSE
     /\ v_waited = 0

\* next 'colour'; thread road; set the colour * /
Step_next_colour ==
  /\ ~v_walk
  /\ v_light_0_colour' = ((v_light_0_colour + 1) % 3)
  /\ v_waited' = (-1)
  /\ UNCHANGED <<v_walk>>

\* go; thread path
Step_go ==
  /\ (~v_walk /\ (v_light_0_colour = 0))
  /\ v_walk' = TRUE
  /\ v_waited' = (IF (2 <= v_waited) THEN 2 ELSE (v_waited + 1))
  /\ UNCHANGED <<v_light_0_colour>>

\* stop; thread path
Step_stop ==
  LET
    t1 == (2 <= v_waited)
    t2 == ~t1
    t3 == (v_waited + 1)
  IN
  /\ (v_walk /\ ~(t2 /\ ~(t3 <= 3)) /\ ~(t2 /\ (v_waited = 3)))
  /\ v_walk' = FALSE
  /\ v_waited' = (IF t1 THEN 2 ELSE t3)
  /\ UNCHANGED <<v_light_0_colour>>

Next ==
  \/ Step_next_colour
  \/ Step_go
  \/ Step_stop

Spec == Init /\ [][Next]_vars

\* safe
Inv_safe ==
  ~(v_walk /\ (v_light_0_colour = 2))

\* red on the way
Inv_red_on_the_way ==
  ~(v_walk /\ ~(v_light_0_colour = 0))

====

INIT Init
NEXT Next
INVARIANT Inv_safe
INVARIANT Inv_red_on_the_way
