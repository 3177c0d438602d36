//go:build tools

// Package tools names the programs of Kubernetes that the tests run, so that go.mod and go.sum pin them with all
// that they are made of. `cargo xtask kube-assets` builds them. For another version: change go.mod (each
// k8s.io/X follows k8s.io/kubernetes, v1.N.P as v0.N.P), and run `go mod tidy` here.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
