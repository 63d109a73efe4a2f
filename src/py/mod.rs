//! py: the seam to Python: the module's list of names. Knows the engine; nothing below knows Python.

mod arrays;
mod catalogue;
mod door;
mod functions;
mod network;
mod result;
mod spec;
mod time;
mod train;
mod words;

use pyo3::prelude::*;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    crate::num::setting::check().map_err(|e| door::named(m.py(), "ArgumentError", &e.to_string()))?;
    m.add_class::<network::Network>()?;
    m.add_class::<train::Trainer>()?;
    m.add_function(wrap_pyfunction!(functions::config, m)?)?;
    m.add_function(wrap_pyfunction!(functions::set_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(functions::get_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(functions::measure_peak, m)?)?;
    m.add_function(wrap_pyfunction!(functions::activation, m)?)?;
    m.add_function(wrap_pyfunction!(functions::initialize, m)?)?;
    m.add_function(wrap_pyfunction!(functions::gradient_stats, m)?)?;
    m.add_function(wrap_pyfunction!(catalogue::catalogue, m)?)?;
    m.add_function(wrap_pyfunction!(train::clip, m)?)?;
    m.add_function(wrap_pyfunction!(train::check_part, m)?)?;
    Ok(())
}
