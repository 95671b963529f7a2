//! e2e_tests
