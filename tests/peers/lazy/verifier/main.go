// Reads an eStargz blob as its library does, and compares every chunk with its digest.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/containerd/stargz-snapshotter/estargz"
	digest "github.com/opencontainers/go-digest"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Arguments: the blob, and the digest of its table of contents. Prints files, chunks, bytes.
func main() {
	file, err := os.Open(os.Args[1])
	check(err)
	status, err := file.Stat()
	check(err)
	reader, err := estargz.Open(io.NewSectionReader(file, 0, status.Size()))
	check(err)
	verifier, err := reader.VerifyTOC(digest.Digest(os.Args[2]))
	check(err)
	root, ok := reader.Lookup("")
	if !ok {
		check(fmt.Errorf("it has no root"))
	}
	files, chunks, bytes := 0, 0, int64(0)
	var walk func(entry *estargz.TOCEntry)
	walk = func(entry *estargz.TOCEntry) {
		if entry.Type == "reg" {
			content, err := reader.OpenFile(entry.Name)
			check(err)
			whole := digest.SHA256.Digester()
			for at := int64(0); at < entry.Size; {
				chunk, ok := reader.ChunkEntryForOffset(entry.Name, at)
				if !ok {
					check(fmt.Errorf("%s has no chunk at %d", entry.Name, at))
				}
				proof, err := verifier.Verifier(chunk)
				check(err)
				data := make([]byte, chunk.ChunkSize)
				n, err := content.ReadAt(data, chunk.ChunkOffset)
				if err != nil && err != io.EOF {
					check(err)
				}
				proof.Write(data[:n])
				whole.Hash().Write(data[:n])
				if !proof.Verified() {
					check(fmt.Errorf("%s: the chunk at %d has another digest", entry.Name, at))
				}
				at += int64(n)
				bytes += int64(n)
				chunks++
			}
			if whole.Digest().String() != entry.Digest {
				check(fmt.Errorf("%s has another digest", entry.Name))
			}
			files++
		}
		entry.ForeachChild(func(_ string, child *estargz.TOCEntry) bool {
			walk(child)
			return true
		})
	}
	walk(root)
	fmt.Println(files, chunks, bytes)
}
