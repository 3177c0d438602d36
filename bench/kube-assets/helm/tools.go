//go:build tools

// Package tools names Helm, so that go.mod and go.sum pin it with all that it is made of. A module of its own: what
// Helm is made of is not to change what the programs of Kubernetes are made of. For another version: change go.mod,
// and run `go mod tidy` here.
package tools

import (
	_ "helm.sh/helm/v3/cmd/helm"
)
