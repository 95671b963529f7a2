//! Says hello in the VMM's log.
use plugin_sdk::{Device, Host, Level, NoConfig, Result, export_plugin};

struct Hello;

impl Device for Hello {
    type Config = NoConfig;
    fn create(host: Host, id: &str, _: NoConfig) -> Result<Self> {
        host.log(Level::Info, &format!("hello from {id}"));
        Ok(Hello)
    }
}

export_plugin! { summary: "Says hello", "hello" => Hello }
