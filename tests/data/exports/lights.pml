/* lights
 * Left out: walked (sometimes)
 * Left out: walks again (leads-to)
 */
byte v_light_0_colour; /* light[0].colour: 0 RED, 1 AMBER, 2 GREEN */
bool v_walk; /* walk */
short v_waited; /* waited */

c_code {
static void initial_0(void)
{
	now.v_light_0_colour = 0;
	now.v_walk = 0;
	now.v_waited = -1;
}
static void initial_1(void)
{
	now.v_light_0_colour = 1;
	now.v_walk = 0;
	now.v_waited = 0;
}
/* next 'colour'; thread road; set the colour * / */
static int guard_0(void)
{
	return !now.v_walk;
}
\#define GUARD_0 guard_0()
static void step_0(void)
{
	const long long n_v_light_0_colour = (((long long)now.v_light_0_colour + 1LL) % 3LL);
	const long long n_v_waited = (-1LL);
	now.v_light_0_colour = n_v_light_0_colour;
	now.v_waited = n_v_waited;
}
/* go; thread path */
static int guard_1(void)
{
	if (now.v_walk) return 0;
	return ((long long)now.v_light_0_colour == 0LL);
}
\#define GUARD_1 guard_1()
static void step_1(void)
{
	const long long n_v_walk = 1;
	const long long n_v_waited = ((2LL <= (long long)now.v_waited) ? 2LL : ((long long)now.v_waited + 1LL));
	now.v_walk = n_v_walk;
	now.v_waited = n_v_waited;
}
/* stop; thread path */
static int guard_2(void)
{
	if (!now.v_walk) return 0;
	const int t1 = !(2LL <= (long long)now.v_waited);
	if ((t1 && ((long long)now.v_waited == 3LL))) return 0;
	return !(t1 && !(((long long)now.v_waited + 1LL) <= 3LL));
}
\#define GUARD_2 guard_2()
static void step_2(void)
{
	const long long n_v_walk = 0;
	const long long n_v_waited = ((2LL <= (long long)now.v_waited) ? 2LL : ((long long)now.v_waited + 1LL));
	now.v_walk = n_v_walk;
	now.v_waited = n_v_waited;
}
/* safe */
static int invariant_0(void)
{
	return !(now.v_walk && ((long long)now.v_light_0_colour == 2LL));
}
\#define INVARIANT_0 invariant_0()
/* red on the way */
static int invariant_1(void)
{
	return !(now.v_walk && !((long long)now.v_light_0_colour == 0LL));
}
\#define INVARIANT_1 invariant_1()
}

inline check()
{
	assert(c_expr { INVARIANT_0 });
	assert(c_expr { INVARIANT_1 })
}

init {
	if
	:: d_step { true -> c_code { initial_0(); }; check() }
	:: d_step { true -> c_code { initial_1(); }; check() }
	fi;
	do
	:: d_step { c_expr { GUARD_0 } -> c_code { step_0(); }; check() }
	:: d_step { c_expr { GUARD_1 } -> c_code { step_1(); }; check() }
	:: d_step { c_expr { GUARD_2 } -> c_code { step_2(); }; check() }
	od
}
