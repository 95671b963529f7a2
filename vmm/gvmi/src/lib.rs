//! gvmi
