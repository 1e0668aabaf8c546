// SPDX-License-Identifier: MIT
// C++ streams on a tree: argument 1 is its root; argument 2 also reads std::cin.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>

static unsigned long long sum(const std::string &s)
{
	unsigned long long h = 1469598103934665603u;

	for (unsigned char c : s)
		h = (h ^ c) * 1099511628211u;
	return h;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	std::string root = argv[1], line;
	std::ifstream text(root + "/text/lines.txt");

	std::getline(text, line);
	std::cout << line << " " << text.tellg() << "\n";
	text.seekg(-5, std::ios::end);
	std::getline(text, line);
	std::cout << line << " " << text.eof() << "\n";
	std::ifstream bin(root + "/data/large.bin", std::ios::binary);
	std::string all((std::istreambuf_iterator<char>(bin)), std::istreambuf_iterator<char>());
	std::cout << all.size() << " " << sum(all) << "\n";
	bin.clear();
	bin.seekg(1 << 20);
	all.assign(1 << 20, 0);
	bin.read(all.data(), 1 << 20);
	std::cout << bin.gcount() << " " << sum(all) << "\n";
	std::ifstream none(root + "/none");
	std::cout << none.is_open() << "\n";
	std::ofstream out(root + "/text/lines.txt", std::ios::in | std::ios::ate);
	std::map<std::string, long> found;
	for (const auto &e : std::filesystem::recursive_directory_iterator(root))
		found[std::filesystem::relative(e.path(), root)] =
			e.is_regular_file() ? static_cast<long>(e.file_size()) : -1;
	for (const auto &f : found)
		std::cout << f.first << " " << f.second << "\n";
	if (argc > 2) {
		while (std::getline(std::cin, line))
			found[line]++;
		std::cout << found.size() << "\n";
	}
}
