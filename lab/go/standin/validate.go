package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What the operator's validator waits for, one after the other, before it is ready.
func runValidate(ctx context.Context, arguments []string) error {
	where := place{}
	set := where.options("validate")
	path := set.String("state", stateFile, "the mock NVML's state")
	_ = set.Parse(arguments)
	var check func() error
	switch set.Arg(0) {
	case "driver":
		check = func() error {
			state, err := ReadState(*path)
			if err == nil && state.count == 0 {
				err = errors.New("the driver shows no GPU")
			}
			return err
		}
	case "plugin":
		client, err := where.client()
		if err != nil {
			return err
		}
		check = func() error {
			node, err := client.CoreV1().Nodes().Get(ctx, where.node, meta.GetOptions{})
			if err != nil {
				return err
			}
			if amount := node.Status.Allocatable[resource]; amount.IsZero() {
				return fmt.Errorf("node %s offers no %s", where.node, resource)
			}
			return nil
		}
	default:
		return fmt.Errorf("expected driver or plugin, found %q", set.Arg(0))
	}
	return until(ctx, set.Arg(0), check)
}

func until(ctx context.Context, name string, check func() error) error {
	for {
		err := check()
		if err == nil {
			fmt.Printf("%s: validated\n", name)
			return nil
		}
		fmt.Printf("%s: %v\n", name, err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}
