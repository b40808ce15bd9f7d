package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

type kubelet struct {
	plugin.UnimplementedRegistrationServer
	requests chan *plugin.RegisterRequest
}

func (k *kubelet) Register(_ context.Context, request *plugin.RegisterRequest) (*plugin.Empty, error) {
	k.requests <- request
	return &plugin.Empty{}, nil
}

// A kubelet's side of the device plugin API, on a socket in the folder.
func startKubelet(t *testing.T, folder string) (*kubelet, *grpc.Server) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(folder, "kubelet.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server, side := grpc.NewServer(), &kubelet{requests: make(chan *plugin.RegisterRequest, 1)}
	plugin.RegisterRegistrationServer(server, side)
	go func() { _ = server.Serve(listener) }()
	return side, server
}

func (k *kubelet) registered(t *testing.T) *plugin.RegisterRequest {
	t.Helper()
	select {
	case request := <-k.requests:
		return request
	case <-time.After(30 * time.Second):
		t.Fatal("the plugin did not register")
		return nil
	}
}

func TestPluginRegistersAndListsAndRegistersAnewWithARestartedKubelet(t *testing.T) {
	folder, err := os.MkdirTemp("", "plugin") // t.TempDir() may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	state := filepath.Join(folder, "state.ini")
	write(t, state, healthy)
	side, server := startKubelet(t, folder)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- runDevicePlugin(ctx, []string{"-sockets", folder, "-state", state}) }()
	request := side.registered(t)
	if request.ResourceName != "nvidia.com/gpu" || request.Version != "v1beta1" {
		t.Errorf("registered %v", request)
	}
	connection, err := grpc.NewClient("unix://"+filepath.Join(folder, request.Endpoint),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	stream, err := plugin.NewDevicePluginClient(connection).ListAndWatch(ctx, &plugin.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"GPU-a Healthy, GPU-b Healthy", "GPU-a Healthy, GPU-b Unhealthy"} {
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := health(response.Devices); got != want {
			t.Errorf("listed %q, expected %q", got, want)
		}
		write(t, state, healthy+"count = 1\n")
	}
	server.Stop()
	_ = os.Remove(filepath.Join(folder, "kubelet.sock"))
	side, server = startKubelet(t, folder)
	defer server.Stop()
	side.registered(t)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
