//! `offer-template`: what this machine can offer to the market. golem-runtime,
//! sections 1.5 and A.1.

use anyhow::{Context, Result};
use raw_cpuid::{CpuId, CpuIdReader, ExtendedFeatures, FeatureInfo};
use serde_json::{Value, json};

/// What the runtime can do, in the market's words.
const CAPABILITIES: [&str; 4] = ["inet", "vpn", "manifest-support", "start-entrypoint"];

/// The template, with what the self-test found out of the machine's devices: an
/// object, empty when there are none.
pub fn offer_template(devices: &Value) -> Result<Value> {
    let mut properties = cpu(&CpuId::new())?;
    let mut capabilities = CAPABILITIES.to_vec();
    if let Some(found) = devices.as_object().filter(|found| !found.is_empty()) {
        if found.contains_key("gpu") {
            capabilities.push("gpu");
        }
        properties["golem.inf"] = devices.clone();
    }
    properties["golem.runtime.capabilities"] = json!(capabilities);
    Ok(json!({ "properties": properties, "constraints": "" }))
}

fn cpu<R: CpuIdReader>(cpuid: &CpuId<R>) -> Result<Value> {
    let lacks = |what: &'static str| move || format!("this CPU does not tell its {what}");
    let vendor = cpuid.get_vendor_info().with_context(lacks("vendor"))?;
    let brand = cpuid
        .get_processor_brand_string()
        .with_context(lacks("brand"))?;
    let info = cpuid.get_feature_info().with_context(lacks("features"))?;
    let extended = cpuid
        .get_extended_feature_info()
        .with_context(lacks("extended features"))?;
    let model = format!(
        "Stepping {} Family {} Model {}",
        info.stepping_id(),
        u16::from(info.extended_family_id()) + u16::from(info.base_family_id()),
        (u16::from(info.extended_model_id()) << 4) + u16::from(info.base_model_id()),
    );
    let capabilities: Vec<&str> = basic(&info)
        .into_iter()
        .chain(more(&extended))
        .filter_map(|(name, has)| has.then_some(name))
        .collect();
    Ok(json!({
        "golem.inf.cpu.vendor": vendor.as_str(),
        "golem.inf.cpu.brand": brand.as_str().trim(),
        "golem.inf.cpu.model": model,
        "golem.inf.cpu.capabilities": capabilities,
    }))
}

/// Leaf 1, in the contract's order.
#[rustfmt::skip]
fn basic(has: &FeatureInfo) -> [(&'static str, bool); 58] {
    [
        ("sse3", has.has_sse3()), ("pclmulqdq", has.has_pclmulqdq()), ("dtes64", has.has_ds_area()),
        ("monitor", has.has_monitor_mwait()), ("dscpl", has.has_cpl()), ("vmx", has.has_vmx()),
        ("smx", has.has_smx()), ("eist", has.has_eist()), ("tm2", has.has_tm2()),
        ("ssse3", has.has_ssse3()), ("cnxtid", has.has_cnxtid()), ("fma", has.has_fma()),
        ("cmpxchg16b", has.has_cmpxchg16b()), ("pdcm", has.has_pdcm()), ("pcid", has.has_pcid()),
        ("dca", has.has_dca()), ("sse41", has.has_sse41()), ("sse42", has.has_sse42()),
        ("x2apic", has.has_x2apic()), ("movbe", has.has_movbe()), ("popcnt", has.has_popcnt()),
        ("tsc_deadline", has.has_tsc_deadline()), ("aesni", has.has_aesni()), ("xsave", has.has_xsave()),
        ("osxsave", has.has_oxsave()), ("avx", has.has_avx()), ("f16c", has.has_f16c()),
        ("rdrand", has.has_rdrand()), ("hypervisor", has.has_hypervisor()), ("fpu", has.has_fpu()),
        ("vme", has.has_vme()), ("de", has.has_de()), ("pse", has.has_pse()), ("tsc", has.has_tsc()),
        ("msr", has.has_msr()), ("pae", has.has_pae()), ("mce", has.has_mce()),
        ("cx8", has.has_cmpxchg8b()), ("apic", has.has_apic()), ("sep", has.has_sysenter_sysexit()),
        ("mtrr", has.has_mtrr()), ("pge", has.has_pge()), ("mca", has.has_mca()),
        ("cmov", has.has_cmov()), ("pat", has.has_pat()), ("pse36", has.has_pse36()),
        ("psn", has.has_psn()), ("clfsh", has.has_clflush()), ("ds", has.has_ds()),
        ("acpi", has.has_acpi()), ("mmx", has.has_mmx()), ("fxsr", has.has_fxsave_fxstor()),
        ("sse", has.has_sse()), ("sse2", has.has_sse2()), ("ss", has.has_ss()), ("htt", has.has_htt()),
        ("tm", has.has_tm()), ("pbe", has.has_pbe()),

    ]
}

/// Leaf 7, in the contract's order.
#[rustfmt::skip]
fn more(has: &ExtendedFeatures) -> [(&'static str, bool); 37] {
    [
        ("fsgsbase", has.has_fsgsbase()), ("adjust_msr", has.has_tsc_adjust_msr()),
        ("bmi1", has.has_bmi1()), ("hle", has.has_hle()), ("avx2", has.has_avx2()),
        ("fdp", has.has_fdp()), ("smep", has.has_smep()), ("bmi2", has.has_bmi2()),
        ("rep_movsb_stosb", has.has_rep_movsb_stosb()), ("invpcid", has.has_invpcid()),
        ("rtm", has.has_rtm()), ("rdtm", has.has_rdtm()),
        ("deprecate_fpu_cs_ds", has.has_fpu_cs_ds_deprecated()), ("mpx", has.has_mpx()),
        ("rdta", has.has_rdta()), ("rdseed", has.has_rdseed()), ("adx", has.has_adx()),
        ("smap", has.has_smap()), ("clflushopt", has.has_clflushopt()),
        ("processor_trace", has.has_processor_trace()), ("sha", has.has_sha()),
        ("sgx", has.has_sgx()), ("avx512f", has.has_avx512f()), ("avx512dq", has.has_avx512dq()),
        ("avx512_ifma", has.has_avx512_ifma()), ("avx512pf", has.has_avx512pf()),
        ("avx512er", has.has_avx512er()), ("avx512cd", has.has_avx512cd()),
        ("avx512bw", has.has_avx512bw()), ("avx512vl", has.has_avx512vl()),
        ("clwb", has.has_clwb()), ("prefetchwt1", has.has_prefetchwt1()), ("umip", has.has_umip()),
        ("pku", has.has_pku()), ("ospke", has.has_ospke()), ("rdpid", has.has_rdpid()),
        ("sgx_lc", has.has_sgx_lc()),
    ]
}
