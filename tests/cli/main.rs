//! The built binary in a scratch folder: exit codes, messages, configuration errors.
