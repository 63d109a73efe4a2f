//! engine: Lyapunov exponents of a recurrence.
