//! The manifests of `deploy`: what can be said of them without a cluster.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::shop::{Shop, root, run, yaml};

fn deploy(file: &str) -> PathBuf {
    root().join("deploy").join(file)
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["kind"] == kind).collect()
}

#[test]
fn the_sidecar_alone_has_capabilities_and_serves_before_the_application() {
    let documents = yaml(&deploy("kubernetes/sidecar.yaml"));
    for document in &documents {
        assert!(document["apiVersion"].is_string() && document["metadata"]["name"].is_string(), "{document}");
    }
    let [deployment] = of_kind(&documents, "Deployment")[..] else { panic!("{documents:#?}") };
    let template = &deployment["spec"]["template"];
    let pod = &template["spec"];
    assert_eq!(deployment["spec"]["selector"]["matchLabels"]["app"], template["metadata"]["labels"]["app"]);
    // Containers of a pod that shares processes could enter the gate's namespace.
    assert_eq!((&pod["shareProcessNamespace"], pod.get("hostPID")), (&Value::Bool(false), None));
    assert_eq!(pod.get("hostNetwork"), None);
    let [gate] = &pod["initContainers"].as_array().unwrap()[..] else { panic!("{pod:#}") };
    assert_eq!((&gate["restartPolicy"], &gate["args"][0]), (&"Always".into(), &"sidecar".into()));
    assert_eq!(gate["startupProbe"]["exec"]["command"], serde_json::json!(["sluicegate", "status", "get"]));
    let capabilities = &gate["securityContext"]["capabilities"];
    assert_eq!(capabilities["drop"], serde_json::json!(["ALL"]));
    assert_eq!(capabilities["add"], serde_json::json!(["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]));
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["capabilities"], serde_json::json!({"drop": ["ALL"]}), "{container:#}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{container:#}");
        let trust =
            container["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["name"] == "trust");
        assert_eq!(trust.unwrap()["readOnly"], true);
        // Neither the control socket nor the log is the application's.
        assert!(container["volumeMounts"].as_array().unwrap().iter().all(|mount| mount["name"] == "trust"));
    }
    let volumes: Vec<_> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    let mounts = [&gate["volumeMounts"], &pod["containers"][0]["volumeMounts"]];
    for mount in mounts.into_iter().flat_map(|mounts| mounts.as_array().unwrap()) {
        assert!(volumes.contains(&&mount["name"]), "{mount}");
    }
    // What is published, probed and served is one port.
    let port = &pod["containers"][0]["ports"][0]["containerPort"];
    assert_eq!(&pod["containers"][0]["readinessProbe"]["tcpSocket"]["port"], port);
    let publish = format!("--publish=0.0.0.0:{port}");
    assert!(gate["args"].as_array().unwrap().contains(&publish.into()), "{gate:#}");
    let [service] = of_kind(&documents, "Service")[..] else { panic!("{documents:#?}") };
    assert_eq!(&service["spec"]["ports"][0]["targetPort"], port);
    assert_eq!(service["spec"]["selector"]["app"], template["metadata"]["labels"]["app"]);
    // One closes the namespace, one opens it for gates.
    let [closed, gates] = of_kind(&documents, "NetworkPolicy")[..] else { panic!("{documents:#?}") };
    assert_eq!(closed["spec"], serde_json::json!({"podSelector": {}, "policyTypes": ["Egress"]}));
    let label = &gates["spec"]["podSelector"]["matchLabels"]["sluicegate"];
    assert_eq!((label, &template["metadata"]["labels"]["sluicegate"]), (&"sidecar".into(), label));
}

#[test]
fn policies_in_manifests_are_policies() {
    let documents = yaml(&deploy("kubernetes/sidecar.yaml"));
    let policy = of_kind(&documents, "ConfigMap")[0]["data"]["sluicegate.toml"].as_str().unwrap().to_owned();
    let shop = Shop::new();
    let file = shop.path("sluicegate.toml");
    fs::write(&file, policy).unwrap();
    let program = shop.programs().join("sluicegate");
    run(program.to_str().unwrap(), &["policy", "check", file.to_str().unwrap()]);
}

#[test]
fn pods_of_the_runtime_class_find_the_certificate_that_the_plugin_writes() {
    let documents = yaml(&deploy("kubernetes/cni.yaml"));
    let (class, pod) = (of_kind(&documents, "RuntimeClass")[0], &of_kind(&documents, "Pod")[0]["spec"]);
    assert_eq!(class["metadata"]["name"], pod["runtimeClassName"]);
    let text = fs::read_to_string(deploy("kubernetes/sealed.conflist")).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&list["cniVersion"], &list["plugins"][0]["type"]), (&"1.0.0".into(), &"sluicegate".into()));
    let folder = pod["volumes"][0]["hostPath"]["path"].as_str().unwrap();
    let written = format!("--ca-file={folder}/{{K8S_POD_UID}}/ca.pem");
    assert!(list["plugins"][0]["arguments"].as_array().unwrap().contains(&written.into()), "{list:#}");
    let container = &pod["containers"][0];
    let mount = &container["volumeMounts"][0];
    assert_eq!((&mount["subPathExpr"], &mount["readOnly"]), (&"$(POD_UID)".into(), &true.into()));
    let uid =
        container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "POD_UID").unwrap();
    assert_eq!(uid["valueFrom"]["fieldRef"]["fieldPath"], "metadata.uid");
}

/// Renders the templates of the chart, which have two forms only: a value, and a text that is moved to the right.
fn rendered(values: &Value) -> String {
    let template = fs::read_to_string(deploy("helm/sluicegate/templates/sidecar.yaml")).unwrap();
    let mut rendered = String::new();
    let mut rest = &*template;
    while let Some((before, after)) = rest.split_once("{{ ") {
        let (expression, after) = after.split_once(" }}").unwrap();
        let (path, filter) = expression.split_once(" | ").unwrap_or((expression, ""));
        let path =
            path.strip_prefix(".Values.").unwrap_or_else(|| panic!("{expression} is not known to this test"));
        let value = path.split('.').fold(values, |value, key| &value[key]);
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => panic!("{path} is {other}"),
        };
        rendered += before;
        rendered += &match filter {
            "" => text,
            "indent 4" => text.lines().map(|line| format!("    {line}\n")).collect(),
            other => panic!("{other} is not known to this test"),
        };
        rest = after;
    }
    assert!(!rest.contains("{{"), "{rest}");
    rendered + rest
}

#[test]
fn the_chart_makes_the_manifests_with_values_in_them() {
    let shop = Shop::new();
    let mut values = yaml(&deploy("helm/sluicegate/values.yaml")).remove(0);
    let made = |values: &Value| {
        let file = shop.path("rendered.yaml");
        fs::write(&file, rendered(values)).unwrap();
        yaml(&file)
    };
    assert_eq!(made(&values), yaml(&deploy("kubernetes/sidecar.yaml")));
    values["name"] = "shop".into();
    values["port"] = 9000.into();
    let text = serde_json::to_string(&made(&values)).unwrap();
    assert!(text.contains("0.0.0.0:9000") && !text.contains("8080"), "{text}");
    assert!(text.contains("\"shop-policy\"") && !text.contains("\"app\":\"app\""), "{text}");
    let chart = yaml(&deploy("helm/sluicegate/Chart.yaml")).remove(0);
    assert_eq!(
        (&chart["apiVersion"], &chart["appVersion"]),
        (&"v2".into(), &env!("CARGO_PKG_VERSION").into())
    );
    let image = format!("sluicegate:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(values["gate"]["image"], image);
}
