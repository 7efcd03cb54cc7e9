// The stargz snapshotter as a daemon: Debian ships its packages, not the program.
package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/containerd/reference"
	"github.com/containerd/containerd/remotes/docker"
	"github.com/containerd/stargz-snapshotter/fs"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/source"
	"github.com/containerd/stargz-snapshotter/snapshot"
	"google.golang.org/grpc"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Arguments: the socket to listen on, the folder of its state, perhaps a user and a password.
func main() {
	client := &http.Client{Transport: http.DefaultTransport} // containerd's own has no transport
	login := func(string) (string, string, error) {
		if len(os.Args) < 5 {
			return "", "", nil
		}
		return os.Args[3], os.Args[4], nil
	}
	hosts := func(name reference.Spec) ([]docker.RegistryHost, error) {
		authorizer := docker.NewDockerAuthorizer(
			docker.WithAuthClient(client), docker.WithAuthCreds(login),
		)
		plain := docker.ConfigureDefaultRegistries(
			docker.WithPlainHTTP(docker.MatchLocalhost),
			docker.WithClient(client), docker.WithAuthorizer(authorizer),
		)
		return plain(name.Hostname())
	}
	// Only what is read is fetched, so that it can be counted.
	settings := config.Config{NoPrefetch: true, NoBackgroundFetch: true}
	settings.BlobConfig.ValidInterval = 1 // seconds until a registry is asked again; usually 60
	files, err := fs.NewFilesystem(
		filepath.Join(os.Args[2], "stargz"), settings,
		fs.WithGetSources(source.FromDefaultLabels(hosts)),
	)
	check(err)
	snapshotter, err := snapshot.NewSnapshotter(
		context.Background(), filepath.Join(os.Args[2], "snapshotter"), files,
		snapshot.AsynchronousRemove,
	)
	check(err)
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	listener, err := net.Listen("unix", os.Args[1])
	check(err)
	check(server.Serve(listener))
}
