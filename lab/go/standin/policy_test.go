package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// A case is a cluster and the rules of node-a, as testdata/NAME.yaml and NAME.nft.
type clusterFile struct {
	Pods []struct {
		Namespace, Name, IP, Node string
		Labels                    map[string]string
		Ports                     []core.ContainerPort
		HostNetwork               bool
		Phase                     core.PodPhase
		Created                   meta.Time
	}
	Namespaces map[string]map[string]string
	Policies   []struct {
		Namespace, Name string
		Spec            networking.NetworkPolicySpec
	}
}

func load(t *testing.T, path string) Cluster {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, cluster := clusterFile{}, Cluster{}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for _, pod := range file.Pods {
		cluster.Pods = append(cluster.Pods, &core.Pod{
			ObjectMeta: meta.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, Labels: pod.Labels,
				CreationTimestamp: pod.Created},
			Spec: core.PodSpec{NodeName: pod.Node, HostNetwork: pod.HostNetwork,
				Containers: []core.Container{{Name: "main", Ports: pod.Ports}}},
			Status: core.PodStatus{PodIP: pod.IP, Phase: pod.Phase},
		})
	}
	for name, set := range file.Namespaces {
		cluster.Namespaces = append(cluster.Namespaces,
			&core.Namespace{ObjectMeta: meta.ObjectMeta{Name: name, Labels: set}})
	}
	for _, policy := range file.Policies {
		cluster.Policies = append(cluster.Policies, &networking.NetworkPolicy{
			ObjectMeta: meta.ObjectMeta{Namespace: policy.Namespace, Name: policy.Name}, Spec: policy.Spec})
	}
	return cluster
}

func TestRulesets(t *testing.T) {
	cases, _ := filepath.Glob("testdata/*.yaml")
	if len(cases) == 0 {
		t.Fatal("no cases in testdata")
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			got, err := Ruleset("node-a", Ranges{Pods: "10.244.0.0/16", Own: "10.244.1.0/24"}, load(t, path))
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".nft"
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("rules differ from %s; found:\n%s", golden, got)
			}
		})
	}
}

func TestRulesetDoesNotDependOnOrder(t *testing.T) {
	cluster := load(t, "testdata/teams.yaml")
	ranges := Ranges{Pods: "10.244.0.0/16", Own: "10.244.1.0/24"}
	first, _ := Ruleset("node-a", ranges, cluster)
	for left, right := 0, len(cluster.Pods)-1; left < right; left, right = left+1, right-1 {
		cluster.Pods[left], cluster.Pods[right] = cluster.Pods[right], cluster.Pods[left]
	}
	for left, right := 0, len(cluster.Policies)-1; left < right; left, right = left+1, right-1 {
		cluster.Policies[left], cluster.Policies[right] = cluster.Policies[right], cluster.Policies[left]
	}
	if second, _ := Ruleset("node-a", ranges, cluster); first != second {
		t.Errorf("another order gave other rules:\n%s\n%s", first, second)
	}
}

func TestUnreadableSelectorIsAnError(t *testing.T) {
	cluster := load(t, "testdata/teams.yaml")
	cluster.Policies[0].Spec.PodSelector = meta.LabelSelector{
		MatchExpressions: []meta.LabelSelectorRequirement{{Key: "app", Operator: "Near"}}}
	if _, err := Ruleset("node-a", Ranges{}, cluster); err == nil ||
		!strings.Contains(err.Error(), cluster.Policies[0].Name) {
		t.Errorf("expected an error that names the policy, found %v", err)
	}
}
